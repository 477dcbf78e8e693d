"""What a function of schema ``analytics`` is declared as: arguments, columns and one query."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from migrations.views.view import SCHEMA, render_comment


class Argument(NamedTuple):
    """An argument of a function, or a column of its rows, with its SQL type."""

    name: str
    type: str


@dataclass(frozen=True)
class AnalyticsFunction:
    """A function that returns rows with the caller's rights.

    It is one query, and Postgres takes it as a part of the query that calls it: so it is stable,
    and has no settings of its own. Its names are looked up when it is made (``begin atomic``), not
    when it is called: readers have no USAGE on the schemas of the tables, and those of views
    without names have none on schema ``analytics`` either.
    """

    name: str
    meaning: str
    arguments: tuple[Argument, ...]
    columns: tuple[Argument, ...]
    body: str
    rows: int = 1000
    """How many the planner expects."""
    made_before: str = ""
    """The first view that uses it; without one it is made after all views."""

    @property
    def signature(self) -> str:
        types = ", ".join(one.type for one in self.arguments)
        return f"{SCHEMA}.{self.name}({types})"

    def render(self) -> Iterator[str]:
        """Yield the statements that make it."""
        taken = ", ".join(f"{one.name} {one.type}" for one in self.arguments)
        given = ", ".join(f"{one.name} {one.type}" for one in self.columns)
        yield (
            f"create or replace function {SCHEMA}.{self.name}({taken}) returns table ({given})"
            f" language sql stable parallel safe rows {self.rows}"
            f" begin atomic {self.body.strip().rstrip(';')}; end"
        )
        yield f"comment on function {self.signature} is {render_comment(self.meaning)}"
