"""Alembic's entry point. ``siamese.study.storage.database`` hands the connection over; there is no alembic.ini."""

from __future__ import annotations

from alembic import context

from siamese.study.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
