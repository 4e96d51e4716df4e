"""First version: studies, items, raters, presentations, answers, withdrawals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
ROW = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables, and the trigger that keeps answers as they were given."""
    op.create_table(
        "studies",
        sa.Column("id", sa.String(48), nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("config_hash", sa.String(64), nullable=False),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("opened_at", sa.Double),
        sa.Column("closed_at", sa.Double),
        sa.Column("locked_at", sa.Double),
        sa.Column("loss_accepted_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_studies"),
    )
    op.create_table(
        "items",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("study_id", sa.String(48), nullable=False),
        sa.Column("group_name", sa.String(255), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("training", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_items_study_id"),
        sa.UniqueConstraint("study_id", "group_name", "method", name="uq_items_study_id_group_name_method"),
    )
    op.create_table(
        "images",
        sa.Column("item_id", sa.String(32), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("item_id", name="pk_images"),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name="fk_images_item_id"),
    )
    op.create_table(
        "raters",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("study_id", sa.String(48), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("order_seed", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("pseudonym", sa.String(80)),
        sa.Column("role", sa.String(80)),
        sa.Column("consented_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.Column("excluded_at", sa.Double),
        sa.Column("excluded_reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_raters"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_raters_study_id"),
        sa.UniqueConstraint("token_hash", name="uq_raters_token_hash"),
    )
    op.create_index("ix_raters_study_id", "raters", ["study_id"])
    op.create_table(
        "presentations",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("rater_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("phase", sa.String(8), nullable=False),
        sa.Column("group_name", sa.String(255), nullable=False),
        sa.Column("item_ids", sa.Text, nullable=False),
        sa.Column("repeat_of", sa.Integer),
        sa.Column("shown_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_presentations"),
        sa.ForeignKeyConstraint(["rater_id"], ["raters.id"], name="fk_presentations_rater_id"),
        sa.UniqueConstraint("rater_id", "position", name="uq_presentations_rater_id_position"),
    )
    op.create_table(
        "answers",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("rater_id", sa.String(32), nullable=False),
        sa.Column("presentation_id", sa.String(32), nullable=False),
        sa.Column("supersedes", ROW),
        sa.Column("idempotency_key", sa.String(64), nullable=False),
        sa.Column("response", sa.Text, nullable=False),
        sa.Column("confidence", sa.Integer),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("client_ms", sa.Integer),
        sa.Column("server_ms", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_answers"),
        sa.ForeignKeyConstraint(["rater_id"], ["raters.id"], name="fk_answers_rater_id"),
        sa.ForeignKeyConstraint(["presentation_id"], ["presentations.id"], name="fk_answers_presentation_id"),
        sa.ForeignKeyConstraint(["supersedes"], ["answers.id"], name="fk_answers_supersedes"),
        sa.UniqueConstraint("supersedes", name="uq_answers_supersedes"),
        sa.UniqueConstraint("rater_id", "idempotency_key", name="uq_answers_rater_id_idempotency_key"),
    )
    op.create_index("ix_answers_presentation_id", "answers", ["presentation_id"])
    op.create_index(
        "uq_answers_first",
        "answers",
        ["presentation_id"],
        unique=True,
        sqlite_where=sa.text("supersedes IS NULL"),
        postgresql_where=sa.text("supersedes IS NULL"),
    )
    op.create_table(
        "withdrawals",
        sa.Column("id", ROW, autoincrement=True, nullable=False),
        sa.Column("study_id", sa.String(48), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("answers_deleted", sa.Integer, nullable=False),
        sa.Column("requested_by", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_withdrawals"),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name="fk_withdrawals_study_id"),
        sa.UniqueConstraint("token_hash", name="uq_withdrawals_token_hash"),
    )
    op.create_index("ix_withdrawals_study_id", "withdrawals", ["study_id"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER answers_append_only BEFORE UPDATE ON answers "
            "BEGIN SELECT RAISE(ABORT, 'answers are append-only'); END"
        )
    else:
        op.execute(
            "CREATE FUNCTION answers_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'answers are append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER answers_append_only BEFORE UPDATE ON answers FOR EACH ROW EXECUTE FUNCTION answers_append_only()"
        )
