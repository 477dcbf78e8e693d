"""Epochs of the change events, and the event that tells of a new one."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KINDS = (
    "'created', 'updated', 'deleted', 'restored',"
    " 'added', 'removed', 'broken', 'recovered', 'resynced'"
)


def upgrade() -> None:
    _allow(f"{_KINDS}, 'rewound'")
    # Rows are read beside those who write.
    with op.get_context().autocommit_block():
        op.execute("alter table events.change_events validate constraint ck_change_events_change")
    op.create_table(
        "epochs",
        sa.Column(
            "id",
            sa.Uuid(as_uuid=False),
            nullable=False,
            comment="UUID of version 7: a later epoch has a greater id; the greatest is the current",
        ),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=True,
            comment="why history was rewound; null for the first epoch",
        ),
        sa.Column(
            "system_identifier",
            sa.BigInteger(),
            nullable=True,
            comment="of the server, where it tells",
        ),
        sa.Column(
            "timeline",
            sa.BigInteger(),
            nullable=True,
            comment="of the server's WAL, where it tells",
        ),
        sa.Column(
            "database_oid",
            sa.BigInteger(),
            nullable=True,
            comment="of the database; null until it was recorded",
        ),
        sa.Column("events_oid", sa.BigInteger(), nullable=True, comment="of events.change_events"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_epochs")),
        schema="events",
        comment="Sequence numbers count within an epoch; after a restore they are given again",
        if_not_exists=True,
    )
    # A downgrade keeps the epochs: consumers must not see another one without a snapshot.
    op.execute(
        "insert into events.epochs"
        " select kept.* from sync.service_state s"
        " cross join lateral jsonb_populate_recordset(null::events.epochs, s.value) kept"
        " where s.name = 'epochs'"
    )
    op.execute("delete from sync.service_state where name = 'epochs'")
    op.execute(
        "insert into events.epochs (id)"
        " select (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')"
        " || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid"
        " where not exists (select from events.epochs)"
    )


def downgrade() -> None:
    """Within one transaction: half of it would refuse events of the release that goes on.

    So no time is taken to read all rows; the next upgrade replaces the check and validates it.
    """
    # The release before knows no such event. This one asks its receivers to compare, too.
    op.execute(
        "update events.change_events"
        """ set change = 'resynced', after = '{"resources": ["users", "groups"]}'"""
        " where change = 'rewound' and resource = 'connection'"
        " and occurred_at >= (select min(started_at) from events.epochs)"
    )
    _allow(_KINDS)
    op.execute(
        "insert into sync.service_state (name, value)"
        " select 'epochs', jsonb_agg(to_jsonb(e)) from events.epochs e having count(*) > 0"
        " on conflict (name) do update set value = excluded.value"
    )
    op.drop_table("epochs", schema="events", if_exists=True)


def _allow(kinds: str) -> None:
    """Replace the check; rows that there are stay unread."""
    op.execute(
        "-- squawk-ignore ban-drop-constraint\n"
        "alter table events.change_events drop constraint if exists ck_change_events_change"
    )
    op.execute(
        "alter table events.change_events add constraint ck_change_events_change"
        f" check (change in ({kinds})) not valid"
    )
