"""Decides, by the table of routes, whether a request may do what its route does."""

from models.api_token import Scope
from worker.web.client_address import RequestOrigin
from worker.web.endpoint import Endpoint, Exemption
from worker.web.problem import (
    refuse_attempts,
    refuse_missing_token,
    refuse_scheme,
    refuse_scope,
    refuse_wrong_token,
)
from worker.web.verify import FailureLimiter, Principal, TokenVerifier

_SCHEME = "bearer"
_MAX_TOKEN = 200


def authorize(
    endpoint: Endpoint,
    header: str | None,
    client: RequestOrigin,
    verifier: TokenVerifier,
    failures: FailureLimiter,
) -> Principal | None:
    """Return who may use the route; None for an exempt request without a token.

    A token that is sent is always checked. Raises RequestRefused, and ServerUnavailable if the
    tokens cannot be read.
    """
    access = endpoint.access
    if header is None:
        if access in (Exemption.OPEN, Exemption.WORDS):
            return None
        if access is Exemption.LOCAL and client.is_local:
            return None
        raise refuse_missing_token()
    if access is Exemption.OPEN:
        return None
    if header.partition(" ")[0].lower() != _SCHEME:
        raise refuse_scheme()
    principal = verifier.verify(_parse_header(header))
    if principal is None:
        seconds = failures.note_failure(client.address)
        raise refuse_wrong_token() if seconds is None else refuse_attempts(seconds)
    wanted = _get_scope(access, client)
    if wanted is not None and wanted not in principal.scopes:
        raise refuse_scope(wanted)
    return principal


def _get_scope(access: Scope | Exemption, client: RequestOrigin) -> Scope | None:
    if isinstance(access, Scope):
        return access
    return Scope.METRICS if access is Exemption.LOCAL and not client.is_local else None


def _parse_header(header: str) -> str:
    """Return the token in an Authorization header."""
    return header.partition(" ")[2].strip()[:_MAX_TOKEN]
