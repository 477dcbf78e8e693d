"""The purge finds the role definitions that were deleted long ago by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_role_definitions_deleted_at",
        "role_definitions",
        ["deleted_at"],
        schema="directory",
        where="deleted_at is not null",
    )


def downgrade() -> None:
    op.drop_index(
        "ix_role_definitions_deleted_at", "role_definitions", schema="directory", if_exists=True
    )
