"""Problems (RFC 9457): what every error of the API is answered with."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from worker.core.errors import (
    ConfigurationError,
    ExpectationChanged,
    InvalidInput,
    LeaseHeld,
    MirrorError,
    NotFound,
    RetryLater,
    ServerUnavailable,
    StateConflict,
)
from worker.operations.submit import KeyReused

PROBLEM_TYPE: Final = "application/problem+json"
_MAX_TEXTS: Final = 5
"""Mistakes that the sentence of a problem tells; its list has all."""
RETRY_SECONDS: Final = 5
"""When a client may ask again after a 503."""


class FieldProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong with one value."""

    name: Annotated[
        str,
        Meta(description="name of the parameter or header, or path of the field in the body"),
    ]
    detail: Annotated[str, Meta(description="what is wrong, to follow the name")]
    allowed: Annotated[str, Meta(description="which values are allowed, if a few words say it")] = (
        ""
    )


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, in the form of RFC 9457."""

    type: Annotated[str, Meta(description="URN of the kind of problem")]
    title: Annotated[str, Meta(description="name of the HTTP status")]
    status: Annotated[int, Meta(description="the HTTP status")]
    detail: Annotated[str, Meta(description="what is wrong and what to do, in a sentence")]
    code: Annotated[str, Meta(description="the last part of `type`; a word that never changes")]
    request_id: Annotated[str, Meta(description="as `X-Request-Id`; the log and the audit show it")]
    errors: Annotated[
        list[FieldProblem],
        Meta(description="one entry for each wrong value; only with the code `invalid`"),
    ] = []
    current: Annotated[
        Any, Meta(description="how what a request expected is now; only with the code `changed`")
    ] = None


class RequestRefused(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldProblem, ...] = (),
        headers: dict[str, str] | None = None,
        current: object = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.current = current

    def build_problem(self, request_id: str) -> Problem:
        return Problem(
            type=f"urn:tenant-mirror:problem:{self.code}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            code=self.code,
            request_id=request_id,
            errors=list(self.errors),
            current=self.current,
        )


_UNAVAILABLE: Final = "the database cannot serve this request now; try again in some seconds"


_REFUSALS: Final[tuple[tuple[type[MirrorError], int, str], ...]] = (
    (NotFound, 404, "not-found"),
    (StateConflict, 409, "conflict"),
    (LeaseHeld, 409, "conflict"),
    (KeyReused, 422, "key-reused"),
    (InvalidInput, 422, "invalid"),
)
"""Errors whose message is for the client; the first that fits counts."""


def refuse_error(error: MirrorError) -> RequestRefused:
    """Return the answer to an error of ours.

    Messages about servers name hosts, so clients do not see them; the log does.
    """
    if isinstance(error, ServerUnavailable | RetryLater):
        return refuse_unavailable(_UNAVAILABLE)
    if isinstance(error, ConfigurationError):
        return refuse_unavailable("the service is not configured for this; its log says why")
    if isinstance(error, ExpectationChanged):
        return RequestRefused(409, "changed", error.message, current=error.current)
    for kind, status, code in _REFUSALS:
        if isinstance(error, kind):
            return RequestRefused(status, code, error.message)
    return refuse_internal()


def refuse_values(*problems: FieldProblem) -> RequestRefused:
    """Return the answer to a request that has these mistakes."""
    texts = [f"'{it.name}': {it.detail}" if it.name else it.detail for it in problems[:_MAX_TEXTS]]
    if more := len(problems) - len(texts):
        texts.append(f"and {more} more, which 'errors' lists")
    if not problems[0].name:
        texts[0] = f"the body {texts[0]}"
    return RequestRefused(422, "invalid", "; ".join(texts), errors=problems)


@contextmanager
def name_mistakes(name: str) -> Iterator[None]:
    """Name the parameter or field that an InvalidInput is about."""
    try:
        yield
    except KeyReused:
        raise
    except InvalidInput as error:
        raise refuse_values(FieldProblem(name, error.message)) from None


def refuse_unavailable(detail: str) -> RequestRefused:
    return RequestRefused(503, "unavailable", detail, headers={"Retry-After": str(RETRY_SECONDS)})


def refuse_internal() -> RequestRefused:
    return RequestRefused(
        500, "internal", "an error of Tenant Mirror; its log has more under this request id"
    )


def refuse_missing_token() -> RequestRefused:
    return RequestRefused(
        401,
        "token-missing",
        "send 'Authorization: Bearer tm_...'; 'tenant-mirror tokens create' makes a token",
        headers={"WWW-Authenticate": 'Bearer realm="tenant-mirror"'},
    )


def refuse_scheme() -> RequestRefused:
    """Answer another kind of credentials, such as a user and a password."""
    return RequestRefused(
        401,
        "token-invalid",
        "only a bearer token is accepted, no other scheme; send 'Authorization: Bearer tm_...'",
        headers={"WWW-Authenticate": 'Bearer realm="tenant-mirror", error="invalid_request"'},
    )


def refuse_wrong_token() -> RequestRefused:
    """Wrong, expired and revoked tokens get the same answer."""
    return RequestRefused(
        401,
        "token-invalid",
        "the token is unknown, has expired or was revoked",
        headers={"WWW-Authenticate": 'Bearer realm="tenant-mirror", error="invalid_token"'},
    )


def refuse_scope(scope: str) -> RequestRefused:
    challenge = f'Bearer realm="tenant-mirror", error="insufficient_scope", scope="{scope}"'
    return RequestRefused(
        403,
        "scope-missing",
        f"the token lacks the scope '{scope}'",
        headers={"WWW-Authenticate": challenge},
    )


def refuse_attempts(seconds: int) -> RequestRefused:
    return RequestRefused(
        429,
        "too-many-attempts",
        "too many wrong tokens from this address; wait a minute",
        headers={"Retry-After": str(seconds)},
    )
