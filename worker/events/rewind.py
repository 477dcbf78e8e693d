"""Beginning another epoch, once the database was restored, promoted or replaced.

All in one transaction: the epoch, an event for each connection that history was rewound, and
every sink's position, which goes to a snapshot that begins with that event. Sinks and connections
are fenced with tokens that no earlier history gave: a process that holds one from before the
restore can neither write nor move a position.
"""

from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import Connection, text

from models.change_event import ConnectionChange
from models.event_type import CONNECTION
from worker.core.errors import Trouble
from worker.core.log import logger
from worker.events.partitions import be_brief, ensure_partitions
from worker.store.dropped import forgive_all
from worker.store.engine import Database
from worker.store.epochs import Epoch, begin_epoch, lock_epoch, look, record
from worker.store.replay import SETTLING_SECONDS
from worker.store.retries import NOT_REFUSED

RECOVERED: Final = "an operator said that the database was restored"

_NO_LIMIT = text("set local statement_timeout = 0")
# Microseconds since 1970: above every token of any history, each of which grew by ones.
_FENCE: Final = "greatest(token + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint)"
_DUE = text("""
    update sync.connections c set due_at = least(c.due_at, clock_timestamp())
      from sync.leases l
     where l.connection_id = c.id and l.expires_at is not null and c.status in ('active', 'broken')
""")
_HOLD_LEASES = text("select from sync.leases order by connection_id for update")
_TELL = text(f"""
    with told as (
        update sync.leases
           set token = {_FENCE}, holder = null, expires_at = null, event_seq = event_seq + 1,
               last_event_at = greatest(clock_timestamp(), last_event_at)
     returning connection_id, event_seq, last_event_at)
    insert into events.change_events
           (connection_id, seq, occurred_at, resource, object_id, change, after)
    select connection_id, event_seq, last_event_at, :resource, connection_id::text, :change,
           cast(:about as jsonb)
      from told
""")
_FENCE_SINKS = text(f"""
    update events.sinks
       set token = {_FENCE}, holder = null, failures = 0, expires_at = null,
           retry_at = case when expires_at > clock_timestamp()
                           then clock_timestamp() + make_interval(secs => :seconds) end
""")
# Whether a sink's filters let any object through as it is created.
_TAKES_SNAPSHOTS: Final = """
    (s.changes is null or 'created' = any (s.changes))
    and (s.resources is null or exists (select from unnest(s.resources) r where r <> :resource))
"""
_TO_SNAPSHOT = text(f"""
    insert into events.positions (sink_id, connection_id, seq, occurred_at, snapshot)
    select s.id, l.connection_id, l.event_seq, l.last_event_at, jsonb_build_object('rewound', true)
      from events.sinks s cross join sync.leases l
     where (s.connections is null or l.connection_id = any (s.connections))
       and {_TAKES_SNAPSHOTS}
        on conflict (sink_id, connection_id) do update
       set seq = excluded.seq, occurred_at = excluded.occurred_at, snapshot = excluded.snapshot,
           updated_at = clock_timestamp(), {NOT_REFUSED}
""")
# A sink of endings only is told by its next event, and misses none before that.
_BEFORE_IT = text(f"""
    update events.positions p
       set seq = least(p.seq, l.event_seq - 1), snapshot = null, updated_at = clock_timestamp(),
           occurred_at = case when p.seq < l.event_seq then p.occurred_at end, {NOT_REFUSED}
      from events.sinks s, sync.leases l
     where s.id = p.sink_id and l.connection_id = p.connection_id and not ({_TAKES_SNAPSHOTS})
""")
_LAST_CONNECTION = text("select coalesce(max(id), 0) from sync.connections")


@dataclass(frozen=True)
class Rewound:
    """Another epoch, and for whom it began."""

    epoch: str
    previous_epoch: str
    reason: str
    connections: int
    sinks: int


def follow_server(database: Database) -> Rewound | None:
    """Begin another epoch where the server says that history was rewound. Cheap where it was not.

    Any process may ask at any time; one of them does it.
    """
    with database.begin() as connection:
        if _is_settled(look(connection)):
            return None
    _make_partitions(database)
    with database.begin() as connection:
        epoch = lock_epoch(connection)
        done = _rewind(connection, epoch, epoch.rewound) if epoch.rewound else None
        if epoch.is_new and done is None:
            record(connection, epoch)
    if done is not None:
        logger().error(
            "history was rewound: another epoch of the change events has begun", **vars(done)
        )
    return done


def _make_partitions(database: Database) -> None:
    """An old backup has none for this month. Only a help: events find a place all the same."""
    try:
        with database.begin() as connection:
            be_brief(connection)
            ensure_partitions(connection)
    except Trouble as trouble:
        logger().warning("partitions for events could not be made", reason=str(trouble))


def _is_settled(epoch: Epoch) -> bool:
    return epoch.is_standby or not (epoch.rewound or epoch.is_new)


def rewind(database: Database, reason: str = RECOVERED) -> Rewound:
    """Begin another epoch because a person said so."""
    _make_partitions(database)
    with database.begin() as connection:
        epoch = lock_epoch(connection)
        return _rewind(connection, epoch, epoch.rewound or reason)


def _rewind(connection: Connection, epoch: Epoch, reason: str) -> Rewound:
    """Raises Later where others hold what is needed for too long: nothing has changed then."""
    connection.execute(_NO_LIMIT)
    sinks = connection.execute(_FENCE_SINKS, {"seconds": SETTLING_SECONDS}).rowcount
    connection.execute(_HOLD_LEASES)
    connection.execute(_DUE)
    new = begin_epoch(connection, reason, epoch.seen)
    about = {
        "epoch": new,
        "previous_epoch": epoch.id,
        "reason": reason,
        "last_connection": connection.execute(_LAST_CONNECTION).scalar_one(),
    }
    values = {
        "resource": CONNECTION,
        "change": ConnectionChange.REWOUND.value,
        "about": msgspec.json.encode(about).decode(),
    }
    connections = connection.execute(_TELL, values).rowcount
    for statement in (_TO_SNAPSHOT, _BEFORE_IT):
        connection.execute(statement, {"resource": CONNECTION})
    forgive_all(connection)
    return Rewound(new, epoch.id, reason, connections, sinks)
