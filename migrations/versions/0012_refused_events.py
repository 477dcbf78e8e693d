"""An event that a receiver refuses is noted at its connection's position, not at the sink."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NAMES = ("failures", "retry_at", "failed_at", "reason", "refused_id")


def upgrade() -> None:
    for column in (
        sa.Column(
            "failures",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="tries in a row at which the receiver refused the next event",
        ),
        sa.Column(
            "retry_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the refused event is tried again",
        ),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True, comment="a plain sentence for the operator"),
        sa.Column(
            "refused_id", sa.Text(), nullable=True, comment="id of the event that is refused"
        ),
    ):
        op.add_column("positions", column, schema="events", if_not_exists=True)


def downgrade() -> None:
    for name in reversed(_NAMES):
        op.drop_column("positions", name, schema="events", if_exists=True)
