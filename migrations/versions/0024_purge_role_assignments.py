"""The purge finds the role assignments that were deleted long ago by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_role_assignments_deleted_at",
        "role_assignments",
        ["deleted_at"],
        schema="directory",
        where="deleted_at is not null",
    )


def downgrade() -> None:
    op.drop_index(
        "ix_role_assignments_deleted_at", "role_assignments", schema="directory", if_exists=True
    )
