"""What all pages of a process share, and the frame around each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl

from worker.overview.fleet import Fleet
from worker.page.format import Zone
from worker.page.frame import Frame, NavigationItem
from worker.page.page import PageRoute, is_fragment
from worker.page.session import Session, SessionKeeper
from worker.web.context import WebContext
from worker.web.decode import MAX_PARAMETERS
from worker.web.respond import RawRequest

_ZONES: Final[Mapping[str, Zone]] = {one.value: one for one in Zone}


@dataclass(frozen=True)
class PageContext:
    """What all pages share."""

    web: WebContext
    sessions: SessionKeeper
    navigation: tuple[PageRoute, ...]
    """The routes that stand in the navigation."""


def build_bare_frame(title: str, raw: RawRequest) -> Frame:
    """Return the frame of a page that shows nothing of the fleet."""
    parameters = _parse_parameters(raw.query)
    return Frame(
        title=title,
        path=raw.path,
        parameters=parameters,
        zone=_ZONES.get(dict(parameters).get("zone", ""), Zone.UTC),
        now=datetime.now(UTC),
        request_id=raw.request_id,
        is_fragment=is_fragment(raw),
    )


def build_frame(
    site: PageContext, raw: RawRequest, session: Session, title: str, fleet: Fleet | None
) -> Frame:
    """Return the frame for who is signed in, as of a look at the fleet."""
    frame = build_bare_frame(title, raw)
    items = [_build_item(one, raw.path, fleet) for one in site.navigation]
    return frame.signed_in(session, items, now=fleet.now if fleet else frame.now)


def _build_item(route: PageRoute, path: str, fleet: Fleet | None) -> NavigationItem:
    count = 0 if route.count is None or fleet is None else route.count(fleet)
    is_current = path == route.path or (route.path != "/" and path.startswith(f"{route.path}/"))
    return NavigationItem(route.navigation or "", route.path, count, is_current)


def _parse_parameters(query: bytes) -> tuple[tuple[str, str], ...]:
    """Return the parameters of a query, also of one that is refused."""
    try:
        text = query.decode("ascii")
        return tuple(parse_qsl(text, max_num_fields=MAX_PARAMETERS, errors="strict"))
    except ValueError:
        return ()
