"""One route of the API: what the router, the authorisation and the document are made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from models.api_token import Scope


class Exemption(StrEnum):
    """Why a route answers without a token."""

    OPEN = "open"
    """It says nothing about the fleet."""
    WORDS = "words"
    """Without a token it answers with a status word, and with the scope ``read`` in full."""
    LOCAL = "local"
    """On this host no token is needed; elsewhere one with the scope ``metrics``."""


class NoQuery(msgspec.Struct, frozen=True):
    """A route that takes no parameters."""


@dataclass(frozen=True)
class Endpoint:
    """A route."""

    method: str
    path: str
    """With the names of its ids in braces."""
    access: Scope | Exemption
    summary: str
    answer: Callable[..., "Reply"]
    """Its handler, which takes a ``Call``."""
    returns: type[msgspec.Struct] | None
    """What the body of the answer holds; None if it is no JSON of ours."""
    status: int = 200
    refusals: tuple[int, ...] = ()
    """Statuses of problems that are its own, besides those of every route."""
    unwell: int | None = None
    """Status of the same answer when it is bad news."""
    query: type[msgspec.Struct] = NoQuery
    body: type[msgspec.Struct] | None = None
    preview: type[msgspec.Struct] | None = None
    """What a dry run answers, with 200."""
    media_type: str = "application/json"
    runs_inline: bool = False
    """Whether it needs no server, and so no thread."""

    @property
    def name(self) -> str:
        """Its ``operationId``."""
        return self.answer.__name__


@dataclass(frozen=True)
class Reply:
    """An answer: a struct, or bytes of another type."""

    body: msgspec.Struct | bytes
    status: int | None = None
    """If it is not the usual one of the route."""
    headers: Mapping[str, str] = field(default_factory=dict)
