"""Rows of connections: loading, enrolling, requesting resyncs and rescheduling."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Row, Select, bindparam, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from models.connection import ConnectionStatus, connections
from worker.core.errors import NotFound
from worker.store.lease import Transaction

FORGOTTEN_KEY: Final = "forgotten"
"""Key in a connection's settings: its data is being purged."""

FAILING_KEY: Final = "failing"
"""Key in a connection's settings: Nango's list showed an error of its token."""

SYNCED_STATUSES: Final = (ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN)
"""Statuses of connections that are synced."""


@dataclass(frozen=True)
class Connection:
    """A connection's row."""

    id: int
    nango_connection_id: str
    provider_config_key: str
    provider: str
    tenant_id: str | None
    display_name: str | None
    status: ConnectionStatus
    status_reason: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    settings_problem: str | None = None
    broken_count: int = 0
    due_at: datetime | None = None
    requested_at: datetime | None = None
    requested_resources: list[str] | None = None
    requested_full: bool = False
    operator_paused_at: datetime | None = None
    operator_paused_by: str | None = None
    operator_pause_reason: str | None = None
    operator_paused_until: datetime | None = None

    @property
    def is_operator_paused(self) -> bool:
        """Whether an operator has paused it; its status says nothing of that."""
        return self.operator_paused_at is not None

    @property
    def label(self) -> str:
        return f"{self.provider_config_key}/{self.nango_connection_id}"

    @property
    def title(self) -> str:
        """What people call it, with our id: "Contoso (id 3)". It may have control characters."""
        return f"{self.display_name or self.label} (id {self.id})"

    @property
    def is_retired(self) -> bool:
        return self.status is ConnectionStatus.RETIRED

    @property
    def is_being_forgotten(self) -> bool:
        """Whether an operator has started to forget it; it never returns."""
        return bool(self.settings.get(FORGOTTEN_KEY))


_COLUMNS = tuple(connections.c[name] for name in Connection.__dataclass_fields__)


def _connection_from_row(row: Row[Any]) -> Connection:
    values = {name: getattr(row, name) for name in Connection.__dataclass_fields__}
    values["status"] = ConnectionStatus(values["status"])
    return Connection(**values)


def get_connection(db: sa.Connection, connection_id: int) -> Connection:
    """Return one connection. Raises NotFound if it does not exist."""
    row = db.execute(select(*_COLUMNS).where(connections.c.id == connection_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no connection {connection_id}")
    return _connection_from_row(row)


def get_connections(db: sa.Connection, ids: Iterable[int]) -> list[Connection]:
    """Return the connections that still exist, by id."""
    statement = select(*_COLUMNS).where(connections.c.id.in_(list(ids)))
    return [_connection_from_row(row) for row in db.execute(statement.order_by(connections.c.id))]


class SliceConnection(NamedTuple):
    """A connection as loaded at the start of a slice."""

    connection: Connection
    moment: datetime
    """The database's time: the slice handles requests made up to then."""
    shares_tenant: bool
    """Whether another connection, of any status, has the same tenant."""


_OTHER = connections.alias("other")
_SAME_TENANT = exists().where(
    _OTHER.c.tenant_id == connections.c.tenant_id, _OTHER.c.id != connections.c.id
)
_LOOK: Select[Any] = select(
    *_COLUMNS,
    func.clock_timestamp().label("moment"),
    _SAME_TENANT.label("contested"),
).where(connections.c.id == bindparam("number"))


def load_for_slice(db: sa.Connection, connection_id: int) -> SliceConnection:
    """Return a connection with the facts a slice needs. Raises NotFound if it does not exist."""
    row = db.execute(_LOOK, {"number": connection_id}).one_or_none()
    if row is None:
        raise NotFound(f"there is no connection {connection_id}")
    return SliceConnection(_connection_from_row(row), row.moment, row.contested)


MIN_PREFIX: Final = 4
"""Fewest characters of an id that name a connection."""

_BY_NAME = text("""
    select id, case
               when id = cast(:number as bigint) then 0
               when nango_connection_id = :named
                    or provider_config_key || '/' || nango_connection_id = :named then 1
               when tenant_id::text = lower(:named) then 2
               when lower(display_name) = lower(:named) then 3
               when length(:named) >= :shortest
                    and (starts_with(lower(nango_connection_id), lower(:named))
                         or starts_with(tenant_id::text, lower(:named))) then 4
               when lower(:named) = any(domains) then 5 end as tier
      from sync.connections order by id
""")
"""Which way each connection matches what was typed, the most certain way first."""


def find_connection(db: sa.Connection, named: str) -> Connection:
    """Return a connection by what people call it.

    That is our id, Nango's id, ``integration/id``, the tenant's id, the organization's name, the
    first characters of Nango's or the tenant's id, or a domain of the tenant. The most certain way
    that matches counts. Raises NotFound, with the reason, if none or several match.
    """
    number = int(named[:18]) if named.isascii() and named.isdigit() else None
    values = {"number": number, "named": named, "shortest": MIN_PREFIX}
    tiers: dict[int, list[int]] = {}
    for row in db.execute(_BY_NAME, values):
        if row.tier is not None:
            tiers.setdefault(row.tier, []).append(row.id)
    if not tiers:
        shown = named if number is not None else f"'{named}'"
        raise NotFound(
            f"there is no connection {shown}; 'tenant-mirror connections list --text ...' finds "
            "them by a part of their name"
        )
    matches = get_connections(db, tiers[min(tiers)])
    return _choose_match(named, [one for one in matches if not one.is_retired] or matches)


MAX_OPTIONS: Final = 10
"""Most connections that are listed for an ambiguous name."""


def _choose_match(named: str, matches: list[Connection]) -> Connection:
    """Return the only match, else raise NotFound with the options; only ids are always unique."""
    if len(matches) == 1:
        return matches[0]
    options = ", ".join(
        f"{one.id} ({', '.join(filter(None, (one.display_name, one.label, one.status)))})"
        for one in matches[:MAX_OPTIONS]
    )
    rest = len(matches) - MAX_OPTIONS
    more = f" and {rest} more" if rest > 0 else ""
    raise NotFound(f"'{named}' is ambiguous: {options}{more}; pass the number")


def list_all_connections(
    db: sa.Connection, statuses: Sequence[ConnectionStatus] = ()
) -> list[Connection]:
    """Return the connections with the given statuses (or all), by id."""
    statement = select(*_COLUMNS).order_by(connections.c.id)
    if statuses:
        statement = statement.where(connections.c.status.in_(statuses))
    return [_connection_from_row(row) for row in db.execute(statement)]


def request_all_resyncs(db: sa.Connection) -> None:
    """Request a sync of every active or broken connection now."""
    db.execute(
        update(connections)
        .where(connections.c.status.in_((ConnectionStatus.ACTIVE, ConnectionStatus.BROKEN)))
        .values(due_at=func.clock_timestamp(), requested_at=func.clock_timestamp())
    )


def request_resync(
    db: sa.Connection, connection_id: int, resources: list[str] | None, *, full: bool
) -> datetime:
    """Request a resync now, and return the database time of the request."""
    moment: datetime = db.execute(
        update(connections)
        .where(connections.c.id == connection_id)
        .values(
            requested_at=func.clock_timestamp(),
            requested_resources=resources,
            requested_full=full,
            due_at=func.clock_timestamp(),
        )
        .returning(connections.c.requested_at)
    ).scalar_one()
    return moment


_RESCHEDULE = text("""
    update sync.connections
       set requested_at = case when requested_at <= :since and :done then null
                               else requested_at end,
           requested_full = requested_full
                            and not coalesce(requested_at <= :since and :done, false),
           requested_resources = case when requested_at <= :since and :done then null
                                      else requested_resources end,
           due_at = case when requested_at > :since and status in ('active', 'broken')
                         then clock_timestamp() else :due_at end,
           waiting_since = null
     where id = :id
""")


def reschedule(tx: Transaction, due_at: datetime, since: datetime, *, done: bool) -> None:
    """Set the next due time, and if ``done`` clear an operator's request made up to ``since``.

    A newer request is due at once.
    """
    values = {"id": tx.connection_id, "due_at": due_at, "since": since, "done": done}
    tx.db.execute(_RESCHEDULE, values)


def update_connection(tx: Transaction, **values: Any) -> None:
    """Update the connection of a write transaction.

    A new ``due_at`` also clears ``waiting_since``, as the connection has not waited yet.
    """
    if "due_at" in values:
        values.setdefault("waiting_since", None)
    tx.db.execute(update(connections).where(connections.c.id == tx.connection_id).values(**values))


def list_same_tenant(tx: Transaction, tenant_id: str) -> list[Connection]:
    """Return the other connections of the same tenant, of any status, by id."""
    statement = select(*_COLUMNS).where(
        connections.c.tenant_id == tenant_id, connections.c.id != tx.connection_id
    )
    return [
        _connection_from_row(row) for row in tx.db.execute(statement.order_by(connections.c.id))
    ]


def enrol_connection(
    db: sa.Connection, nango_connection_id: str, provider_config_key: str, provider: str
) -> int | None:
    """Store a new connection, due at once, and return its id; None if it is already enrolled."""
    row = insert(connections).values(
        nango_connection_id=nango_connection_id,
        provider_config_key=provider_config_key,
        provider=provider,
        due_at=func.clock_timestamp(),
    )
    key = [connections.c.provider_config_key, connections.c.nango_connection_id]
    statement = row.on_conflict_do_nothing(
        index_elements=key, index_where=connections.c.status != ConnectionStatus.RETIRED.value
    )
    found: int | None = db.execute(statement.returning(connections.c.id)).scalar()
    return found
