"""A retired connection gives its address up; full walks report what the deltas had missed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.concurrently import build_index

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ADDRESS = ["provider_config_key", "nango_connection_id"]


def upgrade() -> None:
    op.add_column(
        "streams",
        sa.Column(
            "drift",
            postgresql.JSONB(),
            nullable=True,
            comment="what the latest full walk found that the deltas had missed, by resource",
        ),
        schema="sync",
        if_not_exists=True,
    )
    build_index(
        "uq_connections_address",
        "connections",
        _ADDRESS,
        schema="sync",
        where="status <> 'retired'",
        unique=True,
    )
    # The index above holds for every row that the constraint was needed for.
    op.execute(
        "-- squawk-ignore ban-drop-constraint\n"
        "alter table sync.connections"
        " drop constraint if exists uq_connections_provider_config_key_nango_connection_id"
    )


def downgrade() -> None:
    op.create_unique_constraint(
        "uq_connections_provider_config_key_nango_connection_id",
        "connections",
        _ADDRESS,
        schema="sync",
    )
    op.drop_index("uq_connections_address", "connections", schema="sync", if_exists=True)
    op.drop_column("streams", "drift", schema="sync", if_exists=True)
