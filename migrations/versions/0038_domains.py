"""The domains of each tenant, so that a customer is found by one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

_FILL = """
    update sync.connections c
       set domains = (
           select array_agg(distinct lower(split_part(few.name, '@', -1)))
             from (select user_principal_name as name from directory.users
                    where connection_id = c.id order by connection_id, id limit 25) few
            where few.name like '%@%.%')
     where domains is null
       and exists (select from directory.users u where u.connection_id = c.id)
"""
"""The next full walk of the users reads far more of them."""


def upgrade() -> None:
    op.add_column(
        "connections",
        sa.Column(
            "domains",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="domains in its users' sign-in names, the most frequent first; null: not read yet",
        ),
        schema="sync",
        if_not_exists=True,
    )
    op.execute(_FILL)


def downgrade() -> None:
    op.drop_column("connections", "domains", schema="sync", if_exists=True)
