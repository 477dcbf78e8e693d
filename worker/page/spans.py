"""What lists of the past can be asked for: days, customers, and how many there are. Pure."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from msgspec import Meta

from worker.overview.fleet import Fleet
from worker.overview.listing import ConnectionFilter, match_ids
from worker.page.page import PageQuery
from worker.web.queries import MAX_ROWS, AfterId, ConnectionId, SearchText

ROWS = 50


class PastQuery(PageQuery, frozen=True, kw_only=True):
    """Of which customers and days."""

    connection: ConnectionId | None = None
    text: SearchText = ""
    """Part of a customer's name, or an id."""
    since: date | None = None
    until: date | None = None
    """The last day."""
    after: AfterId | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = ROWS


def begin_day(day: date | None) -> datetime | None:
    """Return when a day begins in UTC."""
    return None if day is None else datetime.combine(day, time(), UTC)


def end_day(day: date | None) -> datetime | None:
    """Return when the next day begins in UTC."""
    if day is None or day == date.max:
        return None
    return datetime.combine(day + timedelta(days=1), time(), UTC)


def choose_ids(fleet: Fleet, query: PastQuery) -> tuple[int, ...] | None:
    """Return the ids of the wanted connections; None for all of them."""
    found: Sequence[int] | None = None
    if query.text.strip():
        found = match_ids(fleet, ConnectionFilter(text=query.text))
    if query.connection is None:
        return None if found is None else tuple(found)
    return (query.connection,) if found is None or query.connection in found else ()


def render_most(number: int, most: int) -> str:
    """Return a number that was not counted beyond a bound: "12", "1,000+"."""
    return f"{most:,}+" if number > most else f"{number:,}"
