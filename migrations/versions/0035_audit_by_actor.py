"""The newest entries of one operator are found by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index("ix_audit_actor_id", "audit", ["actor", "id"], schema="sync")


def downgrade() -> None:
    op.drop_index("ix_audit_actor_id", "audit", schema="sync", if_exists=True)
