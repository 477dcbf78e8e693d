"""Counts what happens to calls: how many were sent, how long they waited, who throttled them."""

from http import HTTPStatus

from tenacity import RetryCallState

from models.counter import CallLane, CounterName, ThrottleOrigin, WaitReason
from models.run import RunTrigger
from worker.core.counts import Counts
from worker.core.errors import RetryNow
from worker.nango.errors import RateLimited
from worker.nango.response import ApiResponse

_THROTTLED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class CallMeter:
    """Adds to the counters of a process that are about calls."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def count_call(self, lane: RunTrigger, *, is_own: bool) -> None:
        """Count a call that is sent; ``is_own`` if it goes to Nango's own API."""
        self._counts.add(CounterName.NANGO_CALLS, CallLane.OWN if is_own else CallLane(lane))

    def count_response(self, response: ApiResponse) -> None:
        """Count a response of Graph if it refuses the call as one too many."""
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._counts.add(CounterName.THROTTLED_RESPONSES, ThrottleOrigin.GRAPH)

    def count_rate_limit(self) -> None:
        """Count a 429 of Nango's own."""
        self._counts.add(CounterName.THROTTLED_RESPONSES, ThrottleOrigin.NANGO)

    def count_wait(self, seconds: float, reason: WaitReason) -> None:
        self._counts.add(CounterName.CALL_WAIT_SECONDS, reason, value=seconds)

    def count_retry(self, state: RetryCallState) -> None:
        """Count the wait before a request is sent again."""
        error = state.outcome.exception() if state.outcome else None
        self.count_wait(state.upcoming_sleep, _find_reason(error))


def _find_reason(error: BaseException | None) -> WaitReason:
    if isinstance(error, RateLimited):
        return WaitReason.BUDGET
    if isinstance(error, RetryNow) and error.status in _THROTTLED and error.after is not None:
        return WaitReason.GRAPH
    return WaitReason.RETRY
