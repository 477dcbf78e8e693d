"""The index that tells whether any group is deleted; databases that passed an older 0006 have it."""

from migrations.concurrently import build_index

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_groups_deleted",
        "groups",
        ["connection_id"],
        schema="directory",
        where="deleted_at is not null",
    )


def downgrade() -> None:
    """The index stays: an older release has built it with 0006, whose downgrade drops it."""
