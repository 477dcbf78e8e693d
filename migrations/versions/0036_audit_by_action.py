"""The newest entries of one action are found by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index("ix_audit_action_id", "audit", ["action", "id"], schema="sync")


def downgrade() -> None:
    op.drop_index("ix_audit_action_id", "audit", schema="sync", if_exists=True)
