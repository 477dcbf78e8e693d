"""The one search box: an id, a name, a tenant, a domain or a run leads to its page."""

from typing import Final

import msgspec

from worker.core.errors import NotFound
from worker.overview.fleet import Fleet
from worker.overview.listing import ConnectionFilter, Sort, list_connections
from worker.page.page import PageQuery, Redirect, View, Visit
from worker.store.state.metrics import set_statement_timeout
from worker.store.state.runs import get_run
from worker.web.queries import SearchText

_MOST: Final = 50
_MAX_DIGITS: Final = 18


class SearchQuery(PageQuery, frozen=True, kw_only=True):
    """What is searched for."""

    q: SearchText = ""


class FoundConnection(msgspec.Struct, frozen=True):
    """A connection that may be meant."""

    id: int
    title: str
    label: str
    tenant_id: str | None
    domains: list[str]
    why: str


class FoundRun(msgspec.Struct, frozen=True):
    """A run that may be meant."""

    id: int
    connection_id: int
    title: str


def search(visit: Visit) -> View | Redirect:
    """Lead to the only thing that is meant, or list what may be."""
    query: SearchQuery = visit.query
    asked = query.q.strip()
    fleet = visit.load_fleet()
    if not asked:
        return Redirect("/")
    number = _parse_number(asked)
    found = _find_connections(fleet, asked)
    run = None
    if number is not None:
        run = _find_run(visit, number, fleet)
    exact = [one for one in found if one.why != "part"]
    if run is not None and not exact:
        return Redirect(f"/runs/{run.id}")
    if run is None and len(exact or found) == 1:
        return Redirect(f"/connections/{(exact or found)[0].id}")
    values = {"asked": asked, "found": found, "run": run, "is_cut": len(found) == _MOST}
    return View("search.html", "Search", values)


def _find_connections(fleet: Fleet, asked: str) -> list[FoundConnection]:
    page = list_connections(fleet, ConnectionFilter(text=asked), sort=Sort.NAME, limit=None)
    found = [_build(fleet, one.id, _explain(fleet, one.id, asked)) for one in page.rows]
    return sorted(found, key=lambda one: one.why == "part")[:_MOST]


def _explain(fleet: Fleet, number: int, asked: str) -> str:
    """Return which of its names is what was searched for; "part" if only a part of one is."""
    facts, text = fleet.by_id[number].facts, asked.casefold()
    names = {
        "id": str(facts.id),
        "Nango's id": facts.nango_id,
        "address in Nango": facts.label,
        "tenant": facts.tenant_id or "",
        "name": facts.name or "",
    }
    if text in (facts.domains or "").split():
        return "domain"
    return next((why for why, name in names.items() if name.casefold() == text), "part")


def _build(fleet: Fleet, number: int, why: str) -> FoundConnection:
    facts = fleet.by_id[number].facts
    domains = (facts.domains or "").split()
    return FoundConnection(facts.id, facts.title, facts.label, facts.tenant_id, domains, why)


def _find_run(visit: Visit, number: int, fleet: Fleet) -> FoundRun | None:
    owner_id = visit.context.reads.get(
        ("owner of a run", number), lambda: _read_owner_id(visit, number)
    )
    if owner_id is None:
        return None
    owner = fleet.by_id.get(owner_id)
    return FoundRun(number, owner_id, owner.facts.title if owner else "")


def _read_owner_id(visit: Visit, number: int) -> int | None:
    """Return the connection of a run; None if there is no such run."""
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        try:
            return int(get_run(db, number)["connection_id"])
        except NotFound:
            return None


def _parse_number(text: str) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None
