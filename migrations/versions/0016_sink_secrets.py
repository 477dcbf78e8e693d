"""Secrets of sinks move to the schema ``sync``, where readers have no right.

Relays of the release before cannot claim a sink once the column is gone. They go on with those
that they serve, and relays of this release claim the others. The column is not kept empty beside
the new table: a relay of the release before would then deliver the events of a sink that has a
Redis of its own to ``REDIS_URL``.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_EMPTY = sa.text("'{}'::jsonb")
_MOVE = """
    do $$ begin
        if exists (select from information_schema.columns
                    where (table_schema, table_name, column_name) = ('events', 'sinks', 'secrets'))
        then
            insert into sync.sink_secrets (sink_id, secrets) select id, secrets from events.sinks;
            alter table events.sinks drop column secrets;
        end if;
    end $$
"""


def upgrade() -> None:
    # At once the strongest lock: taken after a weaker one it could be a deadlock.
    op.execute("lock table events.sinks in access exclusive mode")
    op.create_table(
        "sink_secrets",
        sa.Column("sink_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("secrets", postgresql.JSONB(), server_default=_EMPTY, nullable=False),
        sa.ForeignKeyConstraint(
            ["sink_id"],
            ["events.sinks.id"],
            name=op.f("fk_sink_secrets_sink_id_sinks"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("sink_id", name=op.f("pk_sink_secrets")),
        schema="sync",
        comment="Signing keys, passwords and addresses with either; readers have no right here",
        if_not_exists=True,
    )
    op.execute(_MOVE)


def downgrade() -> None:
    op.add_column(
        "sinks",
        sa.Column(
            "secrets",
            postgresql.JSONB(),
            server_default=_EMPTY,
            nullable=False,
            comment="keys and passwords; shown nowhere",
        ),
        schema="events",
        if_not_exists=True,
    )
    op.execute(
        "update events.sinks s set secrets = x.secrets"
        " from sync.sink_secrets x where x.sink_id = s.id"
    )
    op.drop_table("sink_secrets", schema="sync", if_exists=True)
