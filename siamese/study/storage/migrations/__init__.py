"""Versions of the study database (Alembic); applied when the server starts."""
