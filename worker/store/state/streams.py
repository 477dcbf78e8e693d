"""The durable state of each stream, from which any process can continue."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from psycopg.types.json import Jsonb
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import JSONB

from models.resource import Resource
from models.resources import EDGES_IN, STREAMED
from models.source import Mode, Source
from models.stream import (
    NOT_LICENSED_PHASE,
    OFF_PHASE,
    Nesting,
    Phase,
    compute_late_after,
    streams,
)
from worker.conditions.reasons import NOT_LICENSED, is_not_licensed
from worker.core.errors import LeaseLost
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction

IS_NOT_LICENSED: Final = f"(s.phase = '{Phase.REFUSED}' and s.reason like '%{NOT_LICENSED}')"
"""Condition: stream ``s`` is refused because the tenant lacks the licence; may be null.

``Stream.is_not_licensed`` and the view ``analytics.freshness`` agree.
"""
SHOWN_PHASE: Final = f"""
    case when s.off_at is not null then '{OFF_PHASE}'
         when {IS_NOT_LICENSED} then '{NOT_LICENSED_PHASE}' else s.phase end
"""
"""The phase of stream ``s`` as people and programs are shown it."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One resource of one connection, as committed. Columns are explained in models/stream.py."""

    resource: Resource
    phase: Phase = Phase.READY
    refused_phase: Phase | None = None
    mode: Mode = Mode.PLAIN
    walk_id: int = 0
    page_no: int = 0
    next_link: str | None = None
    delta_link: str | None = None
    delta_link_at: datetime | None = None
    parts: list[str] | None = None
    select_hash: str | None = None
    left_out: list[str] | None = None
    left_out_at: datetime | None = None
    asked_columns: list[str] | None = None
    walked_columns: list[str] | None = None
    covered_since: dict[str, int] | None = None
    off_at: datetime | None = None
    dropped: list[str] | None = None
    to_clear: list[str] | None = None
    page_size: int | None = None
    page_size_at: datetime | None = None
    slow_pages: int = 0
    seen_count: int = 0
    loop_mark: str | None = None
    body_digest: str | None = None
    body_repeats: int = 0
    restarts: int = 0
    incomplete: bool = False
    walk_started_at: datetime | None = None
    first_complete_at: datetime | None = None
    full_walk_at: datetime | None = None
    full_walk_count: int | None = None
    fresh_at: datetime | None = None
    due_at: datetime | None = None
    first_due_at: datetime | None = None
    full_due_at: datetime | None = None
    interval_seconds: float | None = None
    checked_seq: int = 0
    drift: dict[str, dict[str, int]] | None = None
    reason: str | None = None
    out_of_budget: bool = False
    nesting: Nesting | None = None
    """State of the closure of its edges when it was read; None if not known.

    ``store/mirror/nesting.py`` keeps it: saving a stream leaves it alone.
    """
    nesting_at: datetime | None = None

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def source(self) -> Source:
        """The way in which it is read at present."""
        return self.resource.sources.get(self.mode, self.resource.source)

    @property
    def uses_fallback(self) -> bool:
        """Whether the plain way was refused, so that it is read in another one."""
        return self.source is not self.resource.source

    @property
    def is_on(self) -> bool:
        """Whether the settings let it be read."""
        return self.off_at is None

    @property
    def without(self) -> tuple[str, ...]:
        """The Graph properties and relations that are left out at present.

        The tenant's Graph does not know them, or the settings leave them out.
        """
        return (*(self.left_out or ()), *(self.dropped or ()))

    @property
    def left_out_columns(self) -> int:
        """A bit for each column whose property is left out at present."""
        return self.resource.columns_of(self.without) if self.without else 0

    @property
    def current_columns(self) -> list[str]:
        """The columns, and the relations that carry edges, that a walk asks for at present."""
        without, relations = self.left_out_columns, self.resource.relations
        names = enumerate(self.resource.column_names)
        asked = [name for i, name in names if not without >> i & 1]
        return [*asked, *(name for name in relations if name not in self.without)]

    def is_first_read(self, carried: Resource) -> bool:
        """Whether no complete walk has read a carried resource yet: its rows existed before.

        Edges come with a relation, which may be newer than the stream.
        """
        if self.is_initial or not carried.is_edge or self.walked_columns is None:
            return self.is_initial
        return carried.relation not in self.walked_columns

    @property
    def unasked_columns(self) -> int:
        """A bit for each column that the walk under way does not ask for."""
        if self.asked_columns is None:
            return self.left_out_columns
        return self.left_out_columns | _find_others(self.resource, self.asked_columns)

    @property
    def untold_columns(self) -> int:
        """A bit for each column that events do not tell yet, as no walk has brought it so far."""
        return find_untold_columns(self.resource, self.walked_columns)

    @property
    def is_bringing_columns(self) -> bool:
        """Whether the walk under way brings columns that no walk has brought so far."""
        under_way = self.phase is Phase.LISTING and self.asked_columns is not None
        return under_way and bool(self.untold_columns & ~self.unasked_columns)

    @property
    def is_asking_for_others(self) -> bool:
        """Whether the walk under way asks for other columns than one that begins now.

        A release with other columns began it, or no walk is under way that is known to ask.
        """
        return self.asked_columns not in (None, self.current_columns)

    @property
    def is_initial(self) -> bool:
        """Whether no walk has been complete yet, so that events belong to the first load."""
        return self.first_complete_at is None

    @property
    def is_walking_again(self) -> bool:
        """Whether a walk is under way that most objects are expected to pass unchanged."""
        return self.phase is Phase.LISTING and not self.is_initial

    def can_date_changes(self, moment: datetime) -> bool:
        """Whether a new object was absent shortly before ``moment``, so that it is really new.

        False in a first load, and if the last complete read is late by the limit of the view
        ``analytics.freshness``.
        """
        if self.is_initial or self.fresh_at is None:
            return False
        late_after = compute_late_after(self.interval_seconds)
        return moment - self.fresh_at <= timedelta(seconds=late_after)

    @property
    def is_held(self) -> bool:
        return self.phase is Phase.HELD

    @property
    def is_not_licensed(self) -> bool:
        """Whether it was refused because the tenant lacks the licence."""
        return self.phase is Phase.REFUSED and is_not_licensed(self.reason)

    @property
    def follows_delta(self) -> bool:
        """Whether there is a cursor to follow; one kept while delta is refused does not count."""
        return self.delta_link is not None and self.source.follows_delta

    @property
    def carried_edges(self) -> tuple[Resource, ...]:
        """The edges that this stream's walk reads inside its objects: those that are on."""
        edges, without = EDGES_IN.get(self.name, ()), self.without
        return tuple(one for one in edges if one.relation not in without) if without else edges

    @property
    def carried_resources(self) -> tuple[Resource, ...]:
        """The resources that this stream's walk reads: itself, and edges inside it."""
        return (self.resource, *self.carried_edges)


def find_untold_columns(resource: Resource, walked: Collection[str] | None) -> int:
    """Return a bit for each column that events do not tell, as the last walk did not bring it.

    None in a first load, whose events tell everything.
    """
    return 0 if walked is None else _find_others(resource, walked)


def _find_others(resource: Resource, names: Collection[str]) -> int:
    """Return a bit for each column that is not among ``names``."""
    known = set(names)
    return sum(1 << i for i, name in enumerate(resource.column_names) if name not in known)


_COLUMN_NAMES = tuple(
    field.name
    for field in dataclasses.fields(Stream)
    if field.name not in ("resource", "nesting", "nesting_at")
)


def load_streams(db: sa.Connection, connection_id: int) -> dict[str, Stream]:
    """Return the state of every stream, including those that never started."""
    rows = db.execute(select(streams).where(streams.c.connection_id == connection_id))
    by_resource = {row.resource: row for row in rows}
    return {
        resource.name: _stream_from_row(resource, by_resource.get(resource.name))
        for resource in STREAMED
    }


def _stream_from_row(resource: Resource, row: "sa.Row[Any] | None") -> Stream:
    if row is None:
        return Stream(resource=resource)
    values = {name: getattr(row, name) for name in _COLUMN_NAMES}
    values["phase"], values["mode"] = Phase(values["phase"]), Mode(values["mode"])
    if values["refused_phase"] is not None:
        values["refused_phase"] = Phase(values["refused_phase"])
    known = row.nesting if row.nesting_mark == f"{row.walk_id}/{row.page_no}" else None
    nesting = None if known is None else Nesting(known)
    return Stream(resource=resource, **values, nesting=nesting, nesting_at=row.nesting_at)


def load_untold_columns(tx: Transaction, resource: Resource) -> int:
    """Return a bit for each column of a resource that events do not tell yet."""
    statement = select(streams.c.walked_columns).where(
        streams.c.connection_id == tx.connection_id, streams.c.resource == resource.name
    )
    return find_untold_columns(resource, tx.db.execute(statement).scalar())


_JSON_COLUMNS: Final = [name for name in _COLUMN_NAMES if isinstance(streams.c[name].type, JSONB)]
_SAVE: Final = f"""
    insert into sync.streams (connection_id, resource, {", ".join(_COLUMN_NAMES)})
    values (%(connection_id)s, %(resource)s, {", ".join(f"%({n})s" for n in _COLUMN_NAMES)})
    on conflict (connection_id, resource) do update
       set {", ".join(f"{name} = excluded.{name}" for name in _COLUMN_NAMES)},
           nesting_mark = case when streams.nesting_mark = streams.walk_id || '/' || streams.page_no
                               then excluded.walk_id || '/' || excluded.page_no
                               else streams.nesting_mark end
     where streams.walk_id = %(walk_before)s and streams.page_no = %(page_before)s
 returning resource
"""
"""For the driver, because it runs with every page.

An earlier release moves on without the mark: the closure counts as not known from then on.
"""


def save_stream(tx: Transaction, before: Stream, after: Stream) -> None:
    """Save a step. Raises LeaseLost if the stream is no longer at ``before``."""
    values = {name: getattr(after, name) for name in _COLUMN_NAMES}
    values |= {name: Jsonb(values[name]) for name in _JSON_COLUMNS}
    values |= {"walk_before": before.walk_id, "page_before": before.page_no}
    values |= {"connection_id": tx.connection_id, "resource": after.name}
    with get_driver_connection(tx.db).cursor() as cursor:
        saved = cursor.execute(_SAVE, values).fetchone()
    if saved is None:
        raise LeaseLost(
            "another process has changed the stream",
            connection=str(tx.connection_id),
            resource=after.name,
        )
