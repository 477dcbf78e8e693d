"""The Nango client: sends proxied requests to Graph, and requests to Nango's own API.

Built after the fork, one for each process. ``Retries: 0`` is always sent: Nango's own retries
ignore Retry-After for app-only connections and would hold our request open unseen.
https://nango.dev/docs/reference/api/proxy/get
"""

import random
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from threading import Lock

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from models.counter import WaitReason
from models.run import RunTrigger
from worker.conditions.reasons import BUDGET_SPENT
from worker.core.counts import Counts
from worker.core.errors import (
    BudgetExhausted,
    ConfigurationError,
    ConnectionBroken,
    MirrorError,
    RetryLater,
    RetryNow,
)
from worker.core.net.transport import TransportConfig
from worker.nango.api_call import ApiCall
from worker.nango.call_meter import CallMeter
from worker.nango.circuit_breaker import HEALTH_CHECK_PATH, CircuitBreaker
from worker.nango.errors import (
    RateLimited,
    SuspectedMisconfiguration,
    classify_nango_response,
    is_from_working_nango,
    to_retry_later,
)
from worker.nango.health import CHECK_INTERVAL
from worker.nango.limiter import RateLimiter
from worker.nango.response import TRANSIENT_STATUSES, ApiResponse, is_timeout
from worker.nango.throttle_policy import ThrottlePolicy
from worker.nango.transport import ApiRequest, HttpTransport, ResponseObserver

ATTEMPTS = 5
SLOW_ATTEMPTS = 3
"""Attempts at a request that times out in the service; a smaller request helps more."""

_REFUSED_FOR_NOW = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

_KEY_PATTERN = re.compile(r"[!-~]+")
_HEADER_PATTERN = re.compile(r"[!-~]([ -~]*[!-~])?")


@dataclass(frozen=True)
class ConnectionRef:
    """Identifies a connection in Nango."""

    connection_id: str
    provider_config_key: str

    def build_headers(self) -> dict[str, str]:
        """Return the headers. Raises ConnectionBroken if no header can carry one of the ids."""
        if not (
            _HEADER_PATTERN.fullmatch(self.connection_id)
            and _HEADER_PATTERN.fullmatch(self.provider_config_key)
        ):
            raise ConnectionBroken(
                "its id cannot be sent in an HTTP header; connect it again with an id of letters, "
                "digits and hyphens"
            )
        return {
            "Connection-Id": self.connection_id,
            "Provider-Config-Key": self.provider_config_key,
        }

    def __str__(self) -> str:
        return f"{self.provider_config_key}/{self.connection_id}"


@dataclass(frozen=True)
class RetryPolicy:
    """Time limit for one request with all attempts and pauses, and the longest single pause."""

    deadline: float = 60.0
    max_pause: float = 20.0


class NangoClient:
    """Sends requests to one Nango environment. Safe to use from several threads."""

    def __init__(
        self,
        host: str,
        key: str,
        *,
        throttle: ThrottlePolicy,
        retry_policy: RetryPolicy | None = None,
        limiter: RateLimiter | None = None,
        clock: Callable[[], float] = time.time,
        way: TransportConfig | None = None,
    ) -> None:
        self.retry_policy = retry_policy or RetryPolicy()
        self.limiter = limiter or RateLimiter()
        self.throttle = throttle
        self._clock = clock
        self.counts = Counts()
        """Counts of this process that wait for a transaction."""
        self._meter = CallMeter(self.counts)
        self._calls = 0
        self._lock = Lock()
        self.breaker = CircuitBreaker(
            self.limiter.health,
            self._send_health_check,
            min(CHECK_INTERVAL, self.retry_policy.max_pause),
        )
        if not _KEY_PATTERN.fullmatch(key):
            raise ConfigurationError("NANGO_SECRET_KEY contains characters that no API key has")
        self._transport = HttpTransport(host, key, way)

    @property
    def calls(self) -> int:
        """Requests sent so far, failed ones included, as Nango counts them."""
        return self._calls

    def close(self) -> None:
        """Close the connections to Nango and to the store of the budgets."""
        self._transport.close()
        self.limiter.close()

    def proxy(
        self,
        connection: ConnectionRef,
        path: str,
        *,
        method: str = "GET",
        body: object = None,
        lane: RunTrigger = RunTrigger.MANUAL,
        single_attempt: bool = False,
        batched_path: str | None = None,
        observer: ResponseObserver | None = None,
    ) -> ApiResponse:
        """Send a request to Graph through the proxy; ``path`` includes the query.

        The path is sent byte for byte. Returns Graph's responses of any status; raises Nango's own
        errors and those of the network. Waits for the budgets and retries in place while the
        requested pause is short; ``lane`` decides which share of the budget is used. With
        ``single_attempt`` the request is sent once, and Graph's transient statuses are returned,
        too. ``batched_path`` is a path within a ``$batch``; its budget is waited for.
        ``observer`` sees the start of the body early, after the limiter has read the headers.

        Raises RetryLater (out of attempts), BudgetExhausted, Outage, ConnectionBroken,
        ConfigurationError, MalformedResponse.
        """
        own = {
            "Retries": "0",
            "Nango-Proxy-Accept": "application/json",
            "Nango-Proxy-Client-Request-Id": str(uuid.uuid4()),
            **{
                f"Nango-Proxy-{name}": value
                for name, value in self.throttle.request_headers.items()
            },
        }
        try:
            sent = connection.build_headers() | own
            asked = ApiCall(
                method,
                path,
                sent,
                body,
                str(connection),
                lane,
                single_attempt,
                batched_path,
                observer,
            )
            return self._send_with_retries(asked)
        except MirrorError as error:
            error.connection = error.connection or str(connection)
            raise

    def get(self, path: str) -> ApiResponse:
        """GET Nango's own API. Returns Nango's 400 and 404, too."""
        return self._send_with_retries(ApiCall("GET", path))

    def note_throttling(
        self, connection: ConnectionRef, target: str, response: ApiResponse
    ) -> None:
        """Record the throttling of a response inside a ``$batch``."""
        self._meter.count_response(response)
        self._pause_if_throttled(str(connection), target, response, self._clock())

    def note_refusal(self, connection: ConnectionRef, target: str, error: RetryLater) -> None:
        """Hold back all calls of a customer's service if a call for all of them was refused.

        Only a pause that is longer than a call waits is kept: it also binds a sync that an operator
        asks for. https://learn.microsoft.com/graph/throttling
        """
        pause = error.after or 0.0
        if error.status in _REFUSED_FOR_NOW and pause > self.retry_policy.max_pause:
            service = self.throttle.find_service(target)
            self.limiter.pause_connection(str(connection), service, pause)

    def wait(self, seconds: float, reason: WaitReason) -> None:
        """Wait before a call, and count it."""
        self._meter.count_wait(seconds, reason)
        time.sleep(seconds + 0.2 * random.random())

    def _pause_if_throttled(
        self, connection: str, path: str, response: ApiResponse, now: float
    ) -> None:
        self.limiter.pause_connection(
            connection,
            self.throttle.find_service(path),
            self.throttle.parse_pause(response, now),
        )

    def _send_with_retries(self, asked: "ApiCall") -> ApiResponse:
        self.breaker.require_closed(manual=asked.lane is RunTrigger.MANUAL)
        patience = self.retry_policy
        began = time.monotonic()
        until = began + patience.deadline
        attempts = 1 if asked.single_attempt else ATTEMPTS

        def give_up(state: RetryCallState) -> bool:
            if state.outcome is None:
                return False
            error = state.outcome.exception()
            named = error.after or 0.0 if isinstance(error, RetryNow) else 0.0
            slow = (
                isinstance(error, RetryNow)
                and error.needs_smaller_request
                and state.attempt_number >= SLOW_ATTEMPTS
            )
            late = time.monotonic() + state.upcoming_sleep >= until
            return slow or late or named > patience.max_pause

        retrying = Retrying(
            retry=retry_if_exception_type(RetryNow),
            stop=lambda state: stop_after_attempt(attempts)(state) or give_up(state),
            wait=_compute_pause,
            before_sleep=self._meter.count_retry,
            reraise=True,
        )
        try:
            return retrying(self._send_once, asked, until)
        except SuspectedMisconfiguration as doubtful:
            raise self.breaker.classify_suspected(doubtful) from None
        except RetryNow as error:
            if not asked.response_seen.is_set():
                self.limiter.health.note_unanswered(time.monotonic() - began)
            # With a single attempt there was no retry, so only a requested pause is passed on.
            least = 0.0 if asked.single_attempt else patience.max_pause
            raise to_retry_later(error, least, has_worked=self.breaker.has_worked()) from None

    def _send_once(self, asked: "ApiCall", until: float) -> ApiResponse:
        self._wait_for_budget(asked, until)
        response = self._send(asked, until)
        now = self._clock()
        if is_from_working_nango(response):
            asked.response_seen.set()
            self.limiter.health.note_worked()
            if asked.connection is None and response.status in (400, 404):
                return response
        error = classify_nango_response(response, now)
        if isinstance(error, RateLimited):
            self._meter.count_rate_limit()
            self.limiter.pause_account(error.after or 1.0)
        if error is not None:
            raise error
        if asked.connection is not None:
            self._meter.count_response(response)
            if response.status != HTTPStatus.OK:
                self._pause_if_throttled(asked.connection, asked.path, response, now)
            if not asked.single_attempt:
                _raise_if_transient(response, now)
        return response

    def _send_health_check(self, seconds: float) -> ApiResponse:
        """Send a health check, regardless of the budget: all workers send one in a few seconds."""
        until = time.monotonic() + min(seconds, self.retry_policy.deadline)
        return self._send(ApiCall("GET", HEALTH_CHECK_PATH), until)

    def _wait_for_budget(self, asked: "ApiCall", until: float) -> None:
        """Wait for the budgets if the wait is short, else raise BudgetExhausted."""
        service = self.throttle.find_service(asked.charged_path)
        while True:
            seconds, why = self.limiter.try_acquire(asked.connection or "", service, asked.lane)
            if seconds <= 0:
                return
            # Leave time for the call itself.
            latest = until - self.retry_policy.deadline / 2
            if seconds > self.retry_policy.max_pause or time.monotonic() + seconds > latest:
                raise BudgetExhausted(why, after=seconds)
            is_budget = why == BUDGET_SPENT
            self.wait(seconds, WaitReason.BUDGET if is_budget else WaitReason.GRAPH)

    def _send(self, asked: "ApiCall", until: float) -> ApiResponse:
        with self._lock:
            self._calls += 1
        self._meter.count_call(asked.lane, is_own=asked.connection is None)
        request = ApiRequest(
            asked.method, asked.wire_path, asked.headers, asked.body, asked.observer
        )
        return self._transport.send(
            request, until, lambda head: self._learn_from_headers(asked, head)
        )

    def _learn_from_headers(self, asked: "ApiCall", head: ApiResponse) -> None:
        """Update the budgets from the headers, as the next call may go out before the body arrives.

        Whether a refusal is Graph's or Nango's is only known from its body.
        """
        now = self._clock()
        self.limiter.learn_window(head, now)
        if asked.connection is not None and head.status == HTTPStatus.OK:
            self._pause_if_throttled(asked.connection, asked.path, head, now)


def _raise_if_transient(response: ApiResponse, now: float) -> None:
    """Raise RetryNow for a transient status. 501 is not transient."""
    if response.status in TRANSIENT_STATUSES:
        after = response.get_retry_after(now)
        retry = RetryNow(f"Graph answered {response.status}", after=after)
        retry.status = response.status
        retry.needs_smaller_request = is_timeout(response) and after is None
        raise retry


_backoff = wait_random_exponential(multiplier=0.5, max=10)


def _compute_pause(state: RetryCallState) -> float:
    """Return the pause that the service asked for, else exponential backoff with jitter."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RetryNow) and error.after is not None:
        return error.after + 0.1 * _backoff(state)
    return _backoff(state)
