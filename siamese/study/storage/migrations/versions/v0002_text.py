"""Burned-in text that was found in real images, and when an administrator accepted it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Two columns; images of older studies were not looked at."""
    op.add_column("items", sa.Column("text_boxes", sa.Text))
    op.add_column("studies", sa.Column("text_accepted_at", sa.Double))
