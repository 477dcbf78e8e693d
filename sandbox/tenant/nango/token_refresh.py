"""Simulates failing token refreshes: Nango's responses, and its pauses between attempts."""

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
    """The refresh state of a connection's token.

    After a failure, Nango does not retry for `backoff` seconds, even if it would succeed by then,
    and the connection's row keeps its error until a retry succeeds.
    """

    fails: bool = False
    backoff: float = 30.0
    exhausted: bool = False
    """Whether Nango gave up on the connection, after failures on several days."""
    attempts: int = 0
    """Failed attempts."""
    rejected: bool = False
    """Whether Graph rejects the token, which Nango considers valid, until it is renewed."""
    revoked: bool = False
    """Whether Graph rejects renewed tokens, too."""
    forced_count: int = 0
    """Forced refreshes (`force_refresh=true`) that succeeded."""
    _next_try: float = field(default=0.0, repr=False)
    _errors: list[dict[str, str]] = field(default_factory=list, repr=False)

    @property
    def errors(self) -> list[dict[str, str]]:
        """The errors in the connection's row."""
        return [] if self.exhausted else self._errors

    def require_token(self) -> None:
        """Raise NangoError if there is no token for a call."""
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
        """Add the credentials to a connection's row, refreshed if `force`."""
        try:
            self.require_token()
            if force:
                self.forced_count += 1
                self.rejected = self.revoked
        except NangoError:
            payload = {"connection": row}
            raise NangoError(424, "invalid_credentials", REFRESH_REASON, payload=payload) from None

    def reauthorize(self) -> None:
        """Simulate a new authorisation by the customer, which resets all errors."""
        self.fails = self.exhausted = self.rejected = self.revoked = False
        self._next_try, self._errors = 0.0, []
