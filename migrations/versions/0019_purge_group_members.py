"""The purge finds the group members that were deleted long ago by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_group_members_deleted_at",
        "group_members",
        ["deleted_at"],
        schema="directory",
        where="deleted_at is not null",
    )


def downgrade() -> None:
    op.drop_index(
        "ix_group_members_deleted_at", "group_members", schema="directory", if_exists=True
    )
