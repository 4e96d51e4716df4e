"""Alembic's entry point. ``siamese.study.database`` hands the connection over; there is no alembic.ini."""

from __future__ import annotations

from alembic import context

from siamese.study.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
