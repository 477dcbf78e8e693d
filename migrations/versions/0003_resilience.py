"""A retired connection gives its address up; full walks report what the deltas had missed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

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
    )
    with op.get_context().autocommit_block():
        op.create_index(
            "uq_connections_address",
            "connections",
            _ADDRESS,
            unique=True,
            schema="sync",
            postgresql_where=sa.text("status <> 'retired'"),
            postgresql_concurrently=True,
            if_not_exists=True,
        )
    # The index above holds for every row that the constraint was needed for.
    op.execute(
        "-- squawk-ignore ban-drop-constraint\n"
        "alter table sync.connections"
        " drop constraint uq_connections_provider_config_key_nango_connection_id"
    )


def downgrade() -> None:
    op.create_unique_constraint(
        "uq_connections_provider_config_key_nango_connection_id",
        "connections",
        _ADDRESS,
        schema="sync",
    )
    op.drop_index("uq_connections_address", "connections", schema="sync")
    op.drop_column("streams", "drift", schema="sync")
