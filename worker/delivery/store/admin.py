"""Manage sinks for operators: add, list, pause, resume, remove.

A change fences the relay that serves the sink; a relay then claims it again with its new state.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from models.sink import SinkKind, SinkStart, SinkStatus
from worker.core.errors import InvalidInput, NotFound
from worker.delivery.settings import URL_SECRETS, build_stored_sink
from worker.delivery.store.fragments import SINK_COLUMNS, WANTS_CONNECTION
from worker.delivery.store.refusals import retry_refused
from worker.delivery.store.sinks import Sink, fence_sink, sink_from_row, write_start_positions

_ADD = text("""
    insert into events.sinks (name, kind, settings, resources, changes, connections, initial, start)
    values (:name, :kind, cast(:settings as jsonb), :resources, :changes, :connections, :initial,
            :start)
        on conflict (name) do nothing
 returning id
""")
_ADD_SECRETS = text("""
    insert into sync.sink_secrets (sink_id, secrets) values (:id, cast(:secrets as jsonb))
""")
_FIND = text(f"select {SINK_COLUMNS} from events.sinks s where s.name = :name")
_LIST_SINKS = text(f"""
    select s.id, s.name, s.kind, s.status, s.status_reason, s.settings, s.resources, s.changes,
           s.connections, s.initial, s.start, s.failures, s.retry_at, s.last_delivered_at,
           s.created_at, s.holder, coalesce(s.expires_at > clock_timestamp(), false) as served,
           extract(epoch from clock_timestamp() - s.last_delivered_at)::float8 as age_seconds,
           coalesce(w.waiting, 0)::bigint as waiting, coalesce(w.behind, 0) as connections_behind,
           n.snapshots, n.snapshot_rows, n.connections_refused, n.refused_at, n.refused_reason
      from events.sinks s
      left join lateral (
           select sum(l.event_seq - coalesce(p.seq, 0)) as waiting, count(*) as behind
             from sync.leases l
             left join events.positions p
               on p.sink_id = s.id and p.connection_id = l.connection_id
            where l.event_seq > coalesce(p.seq, 0)
              and {WANTS_CONNECTION}) w on true
     cross join lateral (
           select count(*) filter (where p.snapshot is not null) as snapshots,
                  coalesce(sum((p.snapshot ->> 'rows')::bigint), 0)::bigint as snapshot_rows,
                  count(*) filter (where p.failures > 0) as connections_refused,
                  max(p.failed_at) as refused_at,
                  (array_agg(p.reason order by p.failed_at desc)
                      filter (where p.failures > 0))[1] as refused_reason
             from events.positions p join sync.leases l on l.connection_id = p.connection_id
            where p.sink_id = s.id and (p.snapshot is not null or p.failures > 0)
              and {WANTS_CONNECTION}) n
     where cast(:name as text) is null or s.name = :name
     order by s.id
""")
_LIST_POSITIONS = text(f"""
    select c.id as connection_id, c.provider_config_key || '/' || c.nango_connection_id as label,
           coalesce(p.seq, 0) as seq, l.event_seq, l.event_seq - coalesce(p.seq, 0) as waiting,
           p.updated_at, p.snapshot, coalesce(p.failures, 0) as failures, p.retry_at, p.failed_at,
           p.reason, p.refused_id
      from events.sinks s
     cross join sync.leases l
      join sync.connections c on c.id = l.connection_id
      left join events.positions p on p.sink_id = s.id and p.connection_id = l.connection_id
     where s.name = :name and {WANTS_CONNECTION}
     order by (coalesce(p.failures, 0) > 0) desc, (p.snapshot is not null) desc, waiting desc, c.id
     limit :limit
""")
_STATUS = text("select id, status from events.sinks where name = :name for update")
_SET = text("update events.sinks set status = :status, status_reason = :reason where id = :id")
_KEYS = text("""
    select s.kind, x.secrets -> 'keys' as signing_keys
      from events.sinks s left join sync.sink_secrets x on x.sink_id = s.id where s.id = :id
""")
_SET_KEYS = text("""
    insert into sync.sink_secrets as x (sink_id, secrets)
    values (:id, jsonb_build_object('keys', cast(:keys as jsonb)))
        on conflict (sink_id) do update set secrets = x.secrets || excluded.secrets
""")
_STORED = text("""
    select s.kind, s.settings, x.secrets
      from events.sinks s left join sync.sink_secrets x on x.sink_id = s.id where s.id = :id
""")
_SET_SETTINGS = text("update events.sinks set settings = cast(:settings as jsonb) where id = :id")
_SET_SECRETS = text("""
    insert into sync.sink_secrets (sink_id, secrets) values (:id, cast(:secrets as jsonb))
        on conflict (sink_id) do update set secrets = excluded.secrets
""")
_REMOVE = text("delete from events.sinks where id = :id")


@dataclass(frozen=True)
class NewSink:
    """A sink to be added; all values have been checked."""

    name: str
    kind: SinkKind
    settings: dict[str, Any]
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)
    resources: list[str] | None = None
    changes: list[str] | None = None
    initial: bool = True
    start: SinkStart = SinkStart.NOW


def add_sink(db: sa.Connection, new: NewSink, connections: list[int] | None) -> int:
    """Store a sink and its start; return its id. Raises InvalidInput if the name is taken.

    It gets events of these ``connections`` only; None: of all, later ones included.
    """
    values = {**asdict(new), "connections": connections}
    secrets = msgspec.json.encode(values.pop("secrets")).decode()
    values["settings"] = msgspec.json.encode(new.settings).decode()
    sink_id = db.execute(_ADD, values).scalar()
    if sink_id is None:
        raise InvalidInput(
            f"there is a sink '{new.name}' already; remove it first, or pick another name"
        )
    db.execute(_ADD_SECRETS, {"id": sink_id, "secrets": secrets})
    write_start_positions(db, int(sink_id))
    return int(sink_id)


def find_sink(db: sa.Connection, name: str) -> Sink:
    """Return a sink with its secrets, for a test, without touching its lease. Raises NotFound."""
    row = db.execute(_FIND, {"name": name}).one_or_none()
    if row is None:
        raise _build_not_found(name)
    return sink_from_row(row)


def list_sinks(db: sa.Connection, name: str | None = None) -> list[dict[str, Any]]:
    """Return all sinks or one, without secrets. Raises NotFound if that one does not exist."""
    rows = [dict(row) for row in db.execute(_LIST_SINKS, {"name": name}).mappings()]
    if name is not None and not rows:
        raise _build_not_found(name)
    return rows


def list_positions(db: sa.Connection, name: str, limit: int = 50) -> list[dict[str, Any]]:
    """Return a sink's position in each connection, the largest backlogs first.

    Before them come those whose next event is refused, and snapshots under way. ``snapshot`` is
    null if none is under way, else the resource it has reached and its rows.
    """
    rows = db.execute(_LIST_POSITIONS, {"name": name, "limit": limit}).mappings()
    return [dict(row) for row in rows]


def pause_sink(db: sa.Connection, name: str) -> SinkStatus:
    """Pause a sink and return its previous status; a disabled one stays disabled."""
    sink_id, before = _lock_sink(db, name)
    if before is SinkStatus.ACTIVE:
        fence_sink(db, sink_id)
        _set_status(db, sink_id, SinkStatus.PAUSED, "paused by an operator")
    return before


def resume_sink(db: sa.Connection, name: str) -> SinkStatus:
    """Resume a sink at once, without waiting for a later retry; return its previous status."""
    sink_id, before = _lock_sink(db, name)
    fence_sink(db, sink_id)
    retry_refused(db, sink_id)
    _set_status(db, sink_id, SinkStatus.ACTIVE, None)
    return before


def set_sink_url(
    db: sa.Connection, name: str, url: str | None, changes: Mapping[str, object]
) -> SinkStatus:
    """Give a sink another URL, and return its status; its position, filters and keys stay.

    ``url`` None means the Redis of ``REDIS_URL``. ``changes`` are settings that change with it. An
    active sink tries its waiting events again at once. Raises InvalidInput.
    """
    sink_id, status = _lock_sink(db, name)
    row = db.execute(_STORED, {"id": sink_id}).one()
    kept = {key: value for key, value in row.settings.items() if key != "url"}
    settings, located = build_stored_sink(SinkKind(row.kind), url, {**kept, **changes})
    others = {key: value for key, value in (row.secrets or {}).items() if key not in URL_SECRETS}
    values = {
        "id": sink_id,
        "settings": msgspec.json.encode(settings).decode(),
        "secrets": msgspec.json.encode({**others, **located}).decode(),
    }
    fence_sink(db, sink_id)
    retry_refused(db, sink_id)
    db.execute(_SET_SETTINGS, values)
    db.execute(_SET_SECRETS, values)
    if status is SinkStatus.ACTIVE:
        _set_status(db, sink_id, status, None)
    return status


def add_signing_key(db: sa.Connection, name: str, key: str) -> None:
    """Sign with a new secret, and with the old one until it is dropped.

    Raises InvalidInput.
    """
    sink_id, keys = _load_signing_keys(db, name)
    if len(keys) > 1:
        raise InvalidInput(
            f"sink '{name}' signs with two secrets already; "
            f"'tenant-mirror sinks rotate {name} --finish' drops the former"
        )
    _save_signing_keys(db, sink_id, [key, *keys])


def drop_old_signing_keys(db: sa.Connection, name: str) -> int:
    """Sign with the newest secret only; return how many were dropped."""
    sink_id, keys = _load_signing_keys(db, name)
    _save_signing_keys(db, sink_id, keys[:1])
    return len(keys) - 1


def remove_sink(db: sa.Connection, name: str) -> None:
    """Delete a sink with its positions, secrets and settings."""
    sink_id, _ = _lock_sink(db, name)
    db.execute(_REMOVE, {"id": sink_id})


def _lock_sink(db: sa.Connection, name: str) -> tuple[int, SinkStatus]:
    row = db.execute(_STATUS, {"name": name}).one_or_none()
    if row is None:
        raise _build_not_found(name)
    return row.id, SinkStatus(row.status)


def _load_signing_keys(db: sa.Connection, name: str) -> tuple[int, list[str]]:
    """Return a webhook's id and secrets, the newest first.

    Raises InvalidInput if the sink is no webhook.
    """
    sink_id, _ = _lock_sink(db, name)
    row = db.execute(_KEYS, {"id": sink_id}).one()
    if row.kind != SinkKind.WEBHOOK:
        raise InvalidInput(f"sink '{name}' is a {row.kind}; only webhooks are signed")
    return sink_id, list(row.signing_keys or [])


def _save_signing_keys(db: sa.Connection, sink_id: int, keys: list[str]) -> None:
    fence_sink(db, sink_id)
    values = {"id": sink_id, "keys": msgspec.json.encode(keys).decode()}
    db.execute(_SET_KEYS, values)


def _set_status(db: sa.Connection, sink_id: int, status: SinkStatus, reason: str | None) -> None:
    db.execute(_SET, {"id": sink_id, "status": status.value, "reason": reason})


def _build_not_found(name: str) -> NotFound:
    return NotFound(f"there is no sink '{name}'; 'tenant-mirror sinks list' shows them all")
