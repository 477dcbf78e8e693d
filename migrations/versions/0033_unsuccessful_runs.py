"""The newest runs that failed, or were incomplete or held, are found by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_runs_unsuccessful",
        "runs",
        ["state", "id"],
        schema="sync",
        where="state in ('partial', 'held', 'failed')",
    )


def downgrade() -> None:
    op.drop_index("ix_runs_unsuccessful", "runs", schema="sync", if_exists=True)
