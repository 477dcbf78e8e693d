"""The circuit breaker: a health check decides whether Nango is down or one request failed.

A firewall may refuse one path with an empty 403, and Nango refuses every key while its database is
down; both look like a wrong address or key. So a response that is neither Nango's nor Graph's, or
a call without response, only opens the breaker if the health check fails, too: a request for one
row of Nango's list of connections.
"""

from collections.abc import Callable
from typing import Final

from worker.conditions.reasons import NANGO_AWAY
from worker.core.errors import ConfigurationError, MalformedResponse, MirrorError, Outage, RetryNow
from worker.nango.errors import (
    InterceptedResponse,
    SuspectedGlobalFailure,
    SuspectedMisconfiguration,
    classify_nango_response,
    is_from_working_nango,
    to_retry_later,
)
from worker.nango.health import (
    RECENT_SECONDS,
    HealthState,
    NangoHealth,
    compute_check_wait,
    is_transient_outage,
)
from worker.nango.response import ApiResponse

HEALTH_CHECK_PATH: Final = "/connections?limit=1"
HEALTH_CHECK_SECONDS: Final = 10.0
"""Time limit of a health check."""

INTERCEPTED_PAUSE: Final = 60.0
"""Seconds until a request that a gateway or firewall refused is sent again."""

RECOVERED_PAUSE: Final = 5.0
"""The same where the key or the connection was refused, and accepted a moment later."""


class CircuitBreaker:
    """The circuit breaker of one process; all processes share its state through ``health``.

    ``send`` sends the health check once, with a time limit in seconds. It raises MirrorError.
    """

    def __init__(
        self, health: NangoHealth, send: Callable[[float], ApiResponse], check_interval: float
    ) -> None:
        self._health = health
        self._send = send
        self._pause = check_interval

    def require_closed(self, *, manual: bool) -> None:
        """Called before every call. While an outage is suspected, it sends a health check first.

        Of all workers, one sends it every few seconds; a person's command sends its own. Raises
        Outage, or ConfigurationError if the key or the address is most likely wrong.
        """
        if not self._health.needs_check():
            self._health.note_sent()
            return
        state, now = self._health.read()
        if not state.needs_check:
            return
        if not (manual or self._health.claim_check(self._pause)):
            raise self._build_error(state, now)
        error = self.check_nango()
        if error is not None:
            raise error

    def claim_check(self) -> bool:
        """Whether the caller should send the health check now."""
        return self._health.claim_check(self._pause)

    def check_nango(self) -> MirrorError | None:
        """Send the health check, record the result for all, and return the error or None."""
        try:
            error = self._classify_check(self._send(HEALTH_CHECK_SECONDS))
        except MirrorError as raised:
            error = raised
        if error is None:
            self._health.note_worked(force=True)
            return None
        ended = to_retry_later(error, 0.0) if isinstance(error, RetryNow) else error
        halts = isinstance(ended, ConfigurationError)
        lasting = isinstance(error, ConfigurationError) and not isinstance(
            error, SuspectedMisconfiguration
        )
        state, now = self._health.note_outage(ended.message, halts=halts, lasting=lasting)
        return self._build_error(state, now)

    def has_worked(self) -> bool:
        """Whether this key is known to have ever worked at this address."""
        return self._health.read()[0].has_worked

    def classify_suspected(self, doubtful: SuspectedMisconfiguration) -> MirrorError:
        """Return the error for a response of neither Nango nor Graph: for all calls or this one."""
        state, now = self._health.read()
        if not state.has_worked:
            return doubtful
        of_all = isinstance(doubtful, SuspectedGlobalFailure)
        if of_all or now - state.worked_at > RECENT_SECONDS:
            error = self.check_nango()
            if error is not None:
                return error
        pause = RECOVERED_PAUSE if of_all else INTERCEPTED_PAUSE
        message = f"{doubtful.message}; other calls get through, so only this waits"
        return InterceptedResponse(message, after=pause)

    def _classify_check(self, response: ApiResponse) -> MirrorError | None:
        if not response.is_success:
            return (
                None if is_from_working_nango(response) else classify_nango_response(response, 0.0)
            )
        document = response.parse_json()
        if isinstance(document, dict) and "connections" in document:
            return None
        return classify_nango_response(response, 0.0) or MalformedResponse(
            "another server than Nango answers at NANGO_HOST"
        )

    def _build_error(self, state: HealthState, now: float) -> MirrorError:
        if state.halts and (state.lasting or not is_transient_outage(state, now)):
            return ConfigurationError(state.reason)
        after = compute_check_wait(state, now, self._pause)
        return Outage(f"{NANGO_AWAY}: {state.reason}", after=after)
