"""What a view of schema ``analytics`` is declared as: its query, and the meaning of each column."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.property import BOOLEAN, GUID, Property
from models.resource import OWNER, Resource

SCHEMA: Final = "analytics"

_MOMENT: Final = r"^(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-](0\d|1[0-4]):[0-5]\d)$"
"""Of days and times only the form: whether the month has such a day is looked up apart."""
_NULL: Final = re.compile(r"\bnull\b")
NULL_IF_UNSET: Final = "null where it is empty or Graph did not send it"


class ViewInUse(Exception):
    """A view has to be made anew, and objects that are not ours depend on it."""


@dataclass(frozen=True)
class Column:
    """A column: the SQL that computes it, and its meaning, which says what null means."""

    name: str
    sql: str
    meaning: str
    personal: bool = False
    """It can say something about a person."""
    references: str = ""
    """The view whose ids it holds."""

    @property
    def may_be_null(self) -> bool:
        return _NULL.search(self.meaning) is not None


@dataclass(frozen=True)
class AnalyticsView:
    """A view for people. ``source`` is its SQL from ``from`` on."""

    name: str
    meaning: str
    columns: tuple[Column, ...]
    source: str
    key: tuple[str, ...] = ()
    """The columns that identify a row."""

    def render_query(self) -> str:
        chosen = ",\n       ".join(f"{one.sql} as {one.name}" for one in self.columns)
        return f"select {chosen}\n{self.source.strip()}"


def render_comment(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


# ---- columns of every view

ORGANIZATION: Final = Column(
    "organization",
    "c.display_name",
    "the name of the customer's organization; null until it was first read",
)
CONNECTION_ID: Final = Column(
    "connection_id",
    "t.connection_id",
    "Tenant Mirror's number of the connection, which no other one ever gets",
    references="connections",
)
CUSTOMER: Final = (ORGANIZATION, CONNECTION_ID)
SEEN: Final = (
    Column(
        "first_seen_at",
        "t.first_seen_at",
        "when the row was first stored; it may have been deleted and restored since",
    ),
    Column("changed_at", "t.changed_at", "when the row last changed here"),
)
SINCE: Final = (
    Column(
        "since",
        "t.live_since",
        "when it began, as closely as the resource is read; null where that was not seen, as in a"
        " first load",
    ),
    Column("since_exact", "t.live_since is not null", "whether since is known"),
    Column(
        "at_least_since",
        "coalesce(t.live_since, t.changed_at)",
        "since when it is known to hold: since, or the last change of the row",
    ),
)
SIGN_IN_NAME: Final = Column(
    "user_principal_name",
    "u.user_principal_name",
    "the sign-in name of a user; null of others",
    personal=True,
)
LIVE: Final = """
  join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
 where t.deleted_at is null
"""
"""Ends the source of a view of live rows ``t`` of connections that are not retired."""


_USED_BOOKKEEPING: Final = ("first_seen_at", "changed_at", "deleted_at", "live_since")


# ---- columns of a mirrored table


def show_columns(
    resource: Resource,
    first: Sequence[str | Column] = (),
    *,
    further: Sequence[Column] = (),
    apart: Collection[str] = (),
    defaults: Mapping[str, bool] | None = None,
) -> tuple[Column, ...]:
    """Return columns for the properties of a resource: the named ones first, then all others.

    ``apart`` are those that the view shows in another form. ``defaults`` are booleans whose absence
    does not mean false.
    """
    known = {one.name: one for one in resource.columns}
    given = {one if isinstance(one, str) else one.name: one for one in first}
    rest = [name for name in known if name not in given and name not in apart]
    chosen = [*given.values(), *rest, *further]
    return tuple(
        _show_property(known[one], (defaults or {}).get(one, False))
        if isinstance(one, str)
        else one
        for one in chosen
    )


def _show_property(column: Property, default: bool) -> Column:  # noqa: FBT001 - a boolean's value
    place = f"t.{column.name}"
    personal, references = column.is_personal, _get_referenced(column)
    if column.type is BOOLEAN:
        said = "true" if default else "false"
        meaning = f"{column.meaning}; {said} where Graph sent nothing"
        return Column(column.name, f"coalesce({place}, {said})", meaning, personal)
    says_all = column.key or _NULL.search(column.meaning)
    meaning = column.meaning if says_all else f"{column.meaning}; {NULL_IF_UNSET}"
    return Column(column.name, place, meaning, personal, references)


def _get_referenced(column: Property) -> str:
    """Return the one view whose ids a column holds."""
    if column.type is GUID and len(column.references) == 1:
        return column.references[0]
    return ""


def from_table(resource: Resource, joins: Iterable[str] = ()) -> str:
    """Return the source of a view with a row for each live row of a mirrored table ``t``."""
    joined = "".join(f"\n  {one.strip()}" for one in joins)
    return f"  from directory.{resource.name} t{joined}{LIVE}"


def from_edges(
    resource: Resource, column: str, tables: Mapping[str, str], joins: Iterable[str]
) -> str:
    """Return the source of a view with a row for each live row of a table of edges, with its type.

    ``column`` has the type of the far end. Where Graph did not name one that is known, it is
    looked up in ``tables``, by type. Rows with a named type and the others are read apart: of an
    expression on several tables the planner has no figures, expects one row in 200 to have a type,
    and then joins row by row. Both parts are the whole table, and the condition stands outside, so
    that a join can look up rows of either.
    """
    kept = [one for one in (OWNER, *resource.column_names, *_USED_BOOKKEEPING) if one != column]
    names = ", ".join(f"e.{one}" for one in kept)
    far = [one.name for one in resource.columns if one.key][-1]
    found = "\n                    ".join(
        f"when exists (select from directory.{table} x where x.connection_id = e.connection_id"
        f" and x.id = e.{far}) then '{kind}'"
        for kind, table in tables.items()
    )
    joined = "".join(f"\n  {one.strip()}" for one in joins)
    return f"""
  from (select {names}, e.{column}, e.{column} as sent, true as is_named
          from directory.{resource.name} e
         union all
        select {names},
               case {found}
                    else 'unresolved' end, e.{column}, false
          from directory.{resource.name} e) t{joined}{LIVE}\
   and case when t.is_named then t.sent <> 'other' else t.sent = 'other' or t.sent is null end
"""


def from_tables(resources: Sequence[Resource], joins: Iterable[str] = ()) -> str:
    """Return the source of a view with a row for each live row of tables with the same columns."""
    joined = "".join(f"\n  {one.strip()}" for one in joins)
    names = ", ".join((OWNER, *resources[0].column_names, *_USED_BOOKKEEPING))
    each = " union all ".join(f"select {names} from directory.{one.name}" for one in resources)
    return f"  from ({each}) t{joined}{LIVE}"


def join_named(table: str, alias: str, column: str, kind: str = "left join") -> str:
    """Return the join of a mirrored table by an id of a row ``t``."""
    return (
        f"{kind} directory.{table} {alias}"
        f" on {alias}.connection_id = t.connection_id and {alias}.id = t.{column}"
    )


def render_fresh_at(alias: str, *resources: str) -> str:
    """Return a query of the time as new as which the rows of all resources are at least.

    Those aside that are off or not licensed; null where another one was never read.
    """
    names = ", ".join(f"'{one}'" for one in resources)
    return (
        "select case when bool_and(f.fresh_at is not null) then min(f.fresh_at) end"
        f" from analytics.freshness f where f.connection_id = {alias}.connection_id"
        f" and f.resource in ({names}) and f.phase not in ('off', 'not_licensed')"
    )


def render_moment(value: str) -> str:
    """Return SQL for the moment that a text in JSON names; null where it names none.

    Graph's own texts are stored, and a single odd one must not fail a query of all rows.
    """
    return (
        f"case when {value} ~ '{_MOMENT}'"
        f" and jsonb_path_exists(to_jsonb(left({value}, 19)), '$.datetime()', silent => true)"
        f" then ({value})::timestamptz end"
    )


def render_guid(value: str) -> str:
    """Return SQL for the id that a text in JSON is; null where it is none."""
    low = f"lower({value})"
    return (
        f"case when {is_as_long_as_guid(value)}"
        f" and translate({low}, '0123456789abcdef', '') = '----' then ({low})::uuid end"
    )


def is_as_long_as_guid(value: str) -> str:
    """Return the condition that a text has the length and hyphens of an id.

    Of elements of JSON the planner expects a hundred for each row, and few with this condition.
    """
    return f"{value} like '________-____-____-____-____________'"


def are_live(*aliases: str) -> str:
    """Return the condition that none of the joined rows is deleted; there may be none.

    One condition for each: the planner takes hardly any row to fulfil one on all of them together,
    and then joins row by row.
    """
    return " and ".join(f"{one}.deleted_at is null" for one in aliases)


def match_group(alias: str, *columns: tuple[str, str]) -> str:
    """Return the condition that joins a grouped subquery by its columns.

    Each column is compared twice. The planner pushes the plain comparison into the subquery when a
    query filters by that value, and no longer counts it as a join condition. The other comparison
    remains one: it shows the planner that the subquery has at most one row for each outer row, so
    that it skips the subquery if the query selects none of its columns.
    """
    return " and ".join(
        f"{alias}.{column} = {other} and {alias}.{column} = greatest({other})"
        for column, other in columns
    )
