"""What a page is made of: its route, the request as its handler gets it, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec
from starlette.responses import Response

from models.api_token import Scope
from models.audit import Via
from worker.overview.fleet import Fleet
from worker.page.format import Zone
from worker.page.session import Session, SessionKeeper
from worker.store.service.audit import Actor
from worker.web.context import WebContext
from worker.web.fleet_cache import STALE_SECONDS
from worker.web.respond import RawRequest

PAGE_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The content security policy of every page."""


REFRESH_SECONDS: Final = 4.0
"""How often an open page asks for its live part; the script of the page has the same number."""
_SHARED_SECONDS: Final = REFRESH_SECONDS - 0.5
_OPENED_STALE_SECONDS: Final = 30.0


def is_fragment(raw: RawRequest) -> bool:
    """Whether a page asks for its live part."""
    return raw.headers.get("hx-request") == "true"


def get_usable_seconds(raw: RawRequest) -> float:
    """Return the age up to which a request uses what is kept, where that is longer than usual.

    The refreshes of many tabs come at different moments. With this, they share what a single tab
    would need: the look at the fleet, and who is signed in.
    """
    return _SHARED_SECONDS if is_fragment(raw) else 0.0


def get_stale_seconds(raw: RawRequest, method: str) -> float:
    """Return how much older a look may be while the next one is loaded.

    A page that is opened shows at once what was seen last, with its age; its first refresh shows
    the next look. Of 10,000 connections, a look takes most of a second.
    """
    is_opened = method == "GET" and not is_fragment(raw)
    return _OPENED_STALE_SECONDS if is_opened else STALE_SECONDS


class PageExemption(StrEnum):
    """Why a page answers without a session."""

    OPEN = "open"
    """It says nothing about the fleet."""


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What every page can be asked for."""

    zone: Zone = Zone.UTC


class NoForm(msgspec.Struct, frozen=True):
    """A form that has a button only."""


@dataclass(frozen=True)
class Visit:
    """A request to a page, checked and decoded."""

    context: WebContext
    sessions: SessionKeeper
    session: Session | None
    raw: RawRequest
    method: str
    names: Mapping[str, str]
    """The parts of the path that are no ids."""
    ids: Mapping[str, int]
    query: Any
    form: Any

    @property
    def actor(self) -> Actor:
        """Who acts, for the audit."""
        assert self.session is not None, "a page without a session does not act"
        return Actor(self.session.name, Via.PAGE, self.raw.request_id)

    def load_fleet(self) -> Fleet:
        """Return the newest look. Raises ServerUnavailable if the database cannot be read."""
        return self.context.fleet.get_readable(
            get_usable_seconds(self.raw), get_stale_seconds(self.raw, self.method)
        )


@dataclass(frozen=True)
class View:
    """A page to render.

    Its values decide whether it has changed, so they hold instants, never ages: structs, and what
    JSON can hold.
    """

    template: str
    title: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    is_live: bool = True
    """Whether it is asked for again every few seconds."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Redirect:
    """An answer that leads to another page of ours."""

    path: str
    cookies: tuple[str, ...] = ()
    """Values of Set-Cookie."""


@dataclass(frozen=True)
class Content:
    """An answer that is no page: a file."""

    body: bytes
    media_type: str
    caching: str = "no-store"
    file_name: str | None = None
    """If it is to be saved."""


Handler = Callable[[Visit], View | Redirect | Content | Response]


@dataclass(frozen=True)
class PageRoute:
    """A route of the page. The table of all is ``PAGES`` in ``routes.py``."""

    method: str
    path: str
    """Parts in braces that end with ``_id`` are whole numbers."""
    access: Scope | PageExemption
    answer: Handler
    query: type[PageQuery] = PageQuery
    form: type[msgspec.Struct] | None = None
    navigation: str | None = None
    """Its title in the navigation, if it stands there."""
    count: Callable[[Fleet], int] | None = None
    """How many things on it need attention."""
    runs_inline: bool = False
    """Whether it needs no server, and so no thread."""

    @property
    def name(self) -> str:
        return self.answer.__name__
