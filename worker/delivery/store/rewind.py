"""Begin a new epoch after the database was restored, promoted or replaced.

All in one transaction: the epoch, a ``rewound`` event for each connection, and every sink's
position, which gets a snapshot that begins with that event. Sinks and connections are fenced with
tokens that no earlier history used: a process that holds one from before the restore can neither
write nor move a position.
"""

from dataclasses import dataclass
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from models.change_event import ConnectionChange
from models.event_type import CONNECTION_RESOURCE
from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.delivery.store.fragments import WANTS_CONNECTION
from worker.delivery.store.lost_events import forget_all_lost
from worker.delivery.store.replay import RELAY_STOP_SECONDS
from worker.delivery.store.sinks import CLEAR_REFUSAL
from worker.events.epochs import Epoch, begin_epoch, load_epoch, lock_epoch, record_identity
from worker.events.partitions import ensure_partitions, set_lock_timeout
from worker.store.engine import Database

OPERATOR_REASON: Final = "an operator said that the database was restored"

_NO_LIMIT = text("set local statement_timeout = 0")
# Microseconds since 1970: above every token of any history, as tokens grow by one.
_NEXT_FENCE: Final = (
    "greatest(token + 1, (extract(epoch from clock_timestamp()) * 1000000)::bigint)"
)
_MAKE_LEASED_DUE = text("""
    update sync.connections c set due_at = least(c.due_at, clock_timestamp())
      from sync.leases l
     where l.connection_id = c.id and l.expires_at is not null and c.status in ('active', 'broken')
""")
_HOLD_LEASES = text("select from sync.leases order by connection_id for update")
_APPEND_REWOUND = text(f"""
    with told as (
        update sync.leases
           set token = {_NEXT_FENCE}, holder = null, expires_at = null, event_seq = event_seq + 1,
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
       set token = {_NEXT_FENCE}, holder = null, failures = 0, expires_at = null,
           retry_at = case when expires_at > clock_timestamp()
                           then clock_timestamp() + make_interval(secs => :seconds) end
""")
# Whether a sink's filters pass any ``created`` event.
_TAKES_SNAPSHOTS: Final = """
    (s.changes is null or 'created' = any (s.changes))
    and (s.resources is null or exists (select from unnest(s.resources) r where r <> :resource))
"""
_START_SNAPSHOTS = text(f"""
    insert into events.positions (sink_id, connection_id, seq, occurred_at, snapshot)
    select s.id, l.connection_id, l.event_seq, l.last_event_at, jsonb_build_object('rewound', true)
      from events.sinks s cross join sync.leases l
     where {WANTS_CONNECTION}
       and {_TAKES_SNAPSHOTS}
        on conflict (sink_id, connection_id) do update
       set seq = excluded.seq, occurred_at = excluded.occurred_at, snapshot = excluded.snapshot,
           updated_at = clock_timestamp(), {CLEAR_REFUSAL}
""")
# A sink without ``created`` events gets the event next, and misses none before it.
_MOVE_BEFORE_REWOUND = text(f"""
    update events.positions p
       set seq = least(p.seq, l.event_seq - 1), snapshot = null, updated_at = clock_timestamp(),
           occurred_at = case when p.seq < l.event_seq then p.occurred_at end, {CLEAR_REFUSAL}
      from events.sinks s, sync.leases l
     where s.id = p.sink_id and l.connection_id = p.connection_id and not ({_TAKES_SNAPSHOTS})
""")
_LAST_CONNECTION = text("select coalesce(max(id), 0) from sync.connections")


@dataclass(frozen=True)
class RewindResult:
    """A new epoch, and how many connections and sinks it affects."""

    epoch: str
    previous_epoch: str
    reason: str
    connections: int
    sinks: int


def rewind_if_restored(database: Database) -> RewindResult | None:
    """Begin a new epoch if the server shows that history was rewound; cheap if not.

    Any process may call it at any time; only one of them acts.
    """
    with database.open_transaction() as connection:
        if _needs_nothing(load_epoch(connection)):
            return None
    _try_creating_partitions(database)
    with database.open_transaction() as db:
        epoch = lock_epoch(db)
        done = _begin_next_epoch(db, epoch, epoch.rewind_reason) if epoch.rewind_reason else None
        if epoch.has_unrecorded_identity and done is None:
            record_identity(db, epoch)
    if done is not None:
        get_logger().error(
            "history rewound: a new epoch of the change events has begun",
            epoch=done.epoch,
            previous_epoch=done.previous_epoch,
            reason=done.reason,
            connection_count=done.connections,
            sink_count=done.sinks,
        )
    return done


def _try_creating_partitions(database: Database) -> None:
    """Create partitions, which an old backup lacks; events are stored without them, too."""
    try:
        with database.open_transaction() as db:
            set_lock_timeout(db)
            ensure_partitions(db)
    except MirrorError as error:
        get_logger().warning("event partitions not created", reason=str(error))


def _needs_nothing(epoch: Epoch) -> bool:
    return epoch.is_standby or not (epoch.rewind_reason or epoch.has_unrecorded_identity)


def rewind_history(database: Database, reason: str = OPERATOR_REASON) -> RewindResult:
    """Begin a new epoch at an operator's request."""
    _try_creating_partitions(database)
    with database.open_transaction() as db:
        epoch = lock_epoch(db)
        return _begin_next_epoch(db, epoch, epoch.rewind_reason or reason)


def _begin_next_epoch(db: sa.Connection, epoch: Epoch, reason: str) -> RewindResult:
    """Begin the epoch. Raises RetryLater, with no change, if locks are held for too long."""
    db.execute(_NO_LIMIT)
    sinks = db.execute(_FENCE_SINKS, {"seconds": RELAY_STOP_SECONDS}).rowcount
    db.execute(_HOLD_LEASES)
    db.execute(_MAKE_LEASED_DUE)
    new = begin_epoch(db, reason, epoch.observed)
    about = {
        "epoch": new,
        "previous_epoch": epoch.id,
        "reason": reason,
        "last_connection": db.execute(_LAST_CONNECTION).scalar_one(),
    }
    values = {
        "resource": CONNECTION_RESOURCE,
        "change": ConnectionChange.REWOUND.value,
        "about": msgspec.json.encode(about).decode(),
    }
    connections = db.execute(_APPEND_REWOUND, values).rowcount
    for statement in (_START_SNAPSHOTS, _MOVE_BEFORE_REWOUND):
        db.execute(statement, {"resource": CONNECTION_RESOURCE})
    forget_all_lost(db)
    return RewindResult(new, epoch.id, reason, connections, sinks)
