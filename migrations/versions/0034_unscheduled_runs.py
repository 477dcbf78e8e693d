"""The newest runs of people and first loads are found by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_runs_unscheduled",
        "runs",
        ["trigger", "id"],
        schema="sync",
        where="trigger in ('manual', 'backfill')",
    )


def downgrade() -> None:
    op.drop_index("ix_runs_unscheduled", "runs", schema="sync", if_exists=True)
