"""The events of one object are found by an index, without those of first loads."""

from alembic import op

from migrations.concurrently import build_partitioned_index

revision = "0058"
down_revision = "0057"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_partitioned_index(
        "ix_change_events_object",
        "change_events",
        ["connection_id", "object_id", "seq"],
        schema="events",
        where="not (initial and change = 'created')",
    )


def downgrade() -> None:
    op.drop_index(
        "ix_change_events_object", table_name="change_events", schema="events", if_exists=True
    )
