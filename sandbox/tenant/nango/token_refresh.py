"""Tokens that cannot be renewed: what Nango answers, and for how long it does not try again."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

from sandbox.tenant.errors import (
    REFRESH_BACKOFF,
    REFRESH_EXHAUSTED,
    REFRESH_FAILED,
    REFRESH_REASON,
    NangoError,
)


@dataclass(slots=True)
class TokenRefresh:
    """Whether a connection's token can be renewed.

    Once renewing failed, Nango does not try again for `backoff` seconds, even if it would work by
    then, and the connection's row keeps its error until it did.
    """

    fails: bool = False
    backoff: float = 30.0
    exhausted: bool = False
    """Nango gave up on the connection, after failures on several days."""
    attempts: int = 0
    """How often Nango tried and failed."""
    rejected: bool = False
    """Graph takes the token no longer, although Nango holds it for good: until it is renewed."""
    revoked: bool = False
    """Graph takes no new token either."""
    forced_count: int = 0
    """How often a new token was asked for (`force_refresh=true`) and fetched."""
    _next_try: float = field(default=0.0, repr=False)
    _errors: list[dict[str, str]] = field(default_factory=list, repr=False)

    @property
    def errors(self) -> list[dict[str, str]]:
        """What the connection's row shows."""
        return [] if self.exhausted else self._errors

    def require_token(self) -> None:
        """A token for a call; raises NangoError if there is none."""
        if self.exhausted:
            raise NangoError(424, "server_error", REFRESH_EXHAUSTED)
        if monotonic() < self._next_try:
            raise NangoError(424, "connection_refresh_backoff", REFRESH_BACKOFF)
        if not self.fails:
            self._errors = []
            return
        self.attempts += 1
        self._next_try = monotonic() + self.backoff
        self._errors = [{"type": "auth", "log_id": f"1787212345678_{self.attempts:012d}"}]
        raise NangoError(400, "server_error", REFRESH_FAILED)

    def add_credentials(self, row: dict[str, object], *, force: bool = False) -> None:
        """The credentials for somebody who reads the connection itself, new ones by `force`."""
        try:
            self.require_token()
            if force:
                self.forced_count += 1
                self.rejected = self.revoked
        except NangoError:
            payload = {"connection": row}
            raise NangoError(424, "invalid_credentials", REFRESH_REASON, payload=payload) from None

    def reauthorize(self) -> None:
        """The customer authorised the connection again: all is well at once."""
        self.fails = self.exhausted = self.rejected = self.revoked = False
        self._next_try, self._errors = 0.0, []
