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
from worker.web.respond import RawRequest

PAGE_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The content security policy of every page."""


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
        return self.context.fleet.get_readable()


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
