"""Is it Nango, or only this request? One cheap question to Nango itself decides.

A firewall may refuse one path with an empty 403, and a Nango without its database refuses every
key; both look like a wrong address or key of ours. So an answer that is neither Nango's nor
Graph's, and a call without any answer, are never taken for the state of the whole service before
Nango has been asked for one row of its list of connections.
"""

from collections.abc import Callable
from typing import Final

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
"""How long the answer to it may take."""

INTERCEPTED_PAUSE: Final = 60.0
"""Seconds for which a request that something in between refuses is left alone."""

RECOVERED_PAUSE: Final = 5.0
"""The same where the key or the way was refused, and was accepted a moment later."""


class CircuitBreaker:
    """Decides for one process; what is known is shared by all through ``health``.

    ``send`` sends the question, once, with a deadline in seconds; it raises MirrorError.
    """

    def __init__(
        self, health: NangoHealth, send: Callable[[float], ApiResponse], check_interval: float
    ) -> None:
        self._health = health
        self._send = send
        self._pause = check_interval

    def require_closed(self, *, manual: bool) -> None:
        """Called ahead of every call. While Nango is in doubt, it is asked the question first.

        One of all workers asks, every few seconds; a person's command asks by itself. Raises
        Outage, or Halt where the key or the address is wrong by all that is known.
        """
        if not self._health.needs_check():
            self._health.note_sent()
            return
        state, now = self._health.read()
        if not state.needs_check:
            return
        if not (manual or self._health.claim_check(self._pause)):
            raise self._build_error(state, now)
        trouble = self.check_nango()
        if trouble is not None:
            raise trouble

    def claim_check(self) -> bool:
        """Whether the caller is the one to ask the question now."""
        return self._health.claim_check(self._pause)

    def check_nango(self) -> MirrorError | None:
        """Ask the question and note the answer for all; what is wrong, or None where it works."""
        try:
            trouble = self._classify_check(self._send(HEALTH_CHECK_SECONDS))
        except MirrorError as fault:
            trouble = fault
        if trouble is None:
            self._health.note_worked(force=True)
            return None
        ended = to_retry_later(trouble, 0.0) if isinstance(trouble, RetryNow) else trouble
        halts = isinstance(ended, ConfigurationError)
        lasting = isinstance(trouble, ConfigurationError) and not isinstance(
            trouble, SuspectedMisconfiguration
        )
        state, now = self._health.note_outage(ended.message, halts=halts, lasting=lasting)
        return self._build_error(state, now)

    def has_worked(self) -> bool:
        """Whether this key has ever worked at this address, as far as is known."""
        return self._health.read()[0].has_worked

    def classify_suspected(self, doubtful: SuspectedMisconfiguration) -> MirrorError:
        """What an answer that is neither Nango's nor Graph's means: for all, or for its request."""
        state, now = self._health.read()
        if not state.has_worked:
            return doubtful
        of_all = isinstance(doubtful, SuspectedGlobalFailure)
        if of_all or now - state.worked_at > RECENT_SECONDS:
            trouble = self.check_nango()
            if trouble is not None:
                return trouble
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
            "what answers in Nango's place is not Nango"
        )

    def _build_error(self, state: HealthState, now: float) -> MirrorError:
        if state.halts and (state.lasting or not is_transient_outage(state, now)):
            return ConfigurationError(state.reason)
        after = compute_check_wait(state, now, self._pause)
        return Outage(f"Nango does not work now: {state.reason}", after=after)
