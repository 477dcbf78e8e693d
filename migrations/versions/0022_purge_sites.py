"""The purge finds the sites that were deleted long ago by an index."""

from alembic import op

from migrations.concurrently import build_index

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_sites_deleted_at",
        "sites",
        ["deleted_at"],
        schema="directory",
        where="deleted_at is not null",
    )


def downgrade() -> None:
    op.drop_index("ix_sites_deleted_at", "sites", schema="directory", if_exists=True)
