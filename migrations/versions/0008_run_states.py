"""Streams say that they wait for the budget; runs of connections not in use have ended."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_END_RUNS = sa.text("""
    update sync.runs r
       set state = 'partial', finished_at = now(), resources = null,
           error = coalesce(c.status_reason, 'the connection is ' || c.status)
      from sync.connections c
     where c.id = r.connection_id and r.state = 'running'
       and c.status not in ('active', 'broken')
""")


def upgrade() -> None:
    op.add_column(
        "streams",
        sa.Column(
            "out_of_budget",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("false"),
            comment="it waits until the budget of Nango calls has room",
        ),
        schema="sync",
        if_not_exists=True,
    )
    op.execute(_END_RUNS)


def downgrade() -> None:
    op.drop_column("streams", "out_of_budget", schema="sync", if_exists=True)
