"""The purge finds the users that were deleted long ago by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_users_deleted_at",
        "users",
        ["deleted_at"],
        schema="directory",
        where="deleted_at is not null",
    )


def downgrade() -> None:
    op.drop_index("ix_users_deleted_at", "users", schema="directory", if_exists=True)
