"""The purge finds the groups that were deleted long ago by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_groups_deleted_at",
        "groups",
        ["deleted_at"],
        schema="directory",
        where="deleted_at is not null",
    )


def downgrade() -> None:
    op.drop_index("ix_groups_deleted_at", "groups", schema="directory", if_exists=True)
