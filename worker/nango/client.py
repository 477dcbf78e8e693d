"""One proxied request to Graph, or one question to Nango itself.

Built after the fork, one for each process. ``Retries: 0`` is always sent: Nango's own retries
ignore Retry-After for app-only connections and would hold our request open unseen.
https://nango.dev/docs/reference/api/proxy/get
"""

import random
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Event, Lock

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from models.run import RunTrigger
from worker.core.errors import Broken, Halt, Retry, Spent, Trouble
from worker.core.transport import Way
from worker.nango.diagnosis import QUESTION, Diagnosis
from worker.nango.exchange import Exchange, Request, Watch
from worker.nango.gate import DIRECTORY, Gate, service_of
from worker.nango.health import QUESTION_PAUSE
from worker.nango.reply import PASSING, Reply, is_slow
from worker.nango.verdict import (
    Doubtful,
    Limited,
    exhausted,
    nango_trouble,
    shows_that_nango_works,
)

ATTEMPTS = 5
SLOW_ATTEMPTS = 3
"""Attempts at a request that the service has no time for: a smaller one is worth more."""

USER_AGENT = "NONISV|TenantMirror|TenantMirror/0.1"
"""Decorated as SharePoint asks, so that the traffic is not throttled as anonymous."""

_KEY = re.compile(r"[!-~]+")
_HEADER = re.compile(r"[!-~]([ -~]*[!-~])?")


@dataclass(frozen=True)
class Address:
    """How Nango knows a connection."""

    connection_id: str
    provider_config_key: str

    def headers(self) -> dict[str, str]:
        """Raises Broken where no header can carry what somebody chose as an id."""
        if not (
            _HEADER.fullmatch(self.connection_id) and _HEADER.fullmatch(self.provider_config_key)
        ):
            raise Broken("its id cannot be sent in a header; connect it again under a plain one")
        return {
            "Connection-Id": self.connection_id,
            "Provider-Config-Key": self.provider_config_key,
        }

    def __str__(self) -> str:
        return f"{self.provider_config_key}/{self.connection_id}"


@dataclass(frozen=True)
class Patience:
    """How long one request may take, tries and pauses together, and the longest single pause."""

    deadline: float = 60.0
    pause: float = 20.0


@dataclass(frozen=True)
class _Asked:
    """A request, and on whose budgets it goes; without an address it is for Nango itself."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    address: str | None = None
    lane: RunTrigger = RunTrigger.MANUAL
    once: bool = False
    inside: str | None = None
    watch: Watch | None = None
    answered: Event = field(default_factory=Event)
    """Set once an attempt has brought an answer of a Nango that works, whatever it says."""

    @property
    def charged(self) -> str:
        """What says which of the customer's budgets pays."""
        return self.inside or self.target

    @property
    def path(self) -> bytes:
        return (b"" if self.address is None else b"/proxy") + self.target.encode("ascii")


class NangoClient:
    """Talks to one Nango environment. Safe to use from several threads."""

    def __init__(
        self,
        host: str,
        key: str,
        *,
        patience: Patience | None = None,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.time,
        way: Way | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.gate = gate or Gate()
        self._clock = clock
        self._calls = 0
        self._lock = Lock()
        self.diagnosis = Diagnosis(
            self.gate.health, self._question, min(QUESTION_PAUSE, self.patience.pause)
        )
        if not _KEY.fullmatch(key):
            raise Halt("NANGO_SECRET_KEY holds characters that no key has")
        self._exchange = Exchange(host, key, way)

    @property
    def calls(self) -> int:
        """Requests sent so far, failed ones included: what Nango counts."""
        return self._calls

    def close(self) -> None:
        """Let go of the connections, those of the budgets included."""
        self._exchange.close()
        self.gate.close()

    def proxy(
        self,
        address: Address,
        target: str,
        *,
        method: str = "GET",
        body: object = None,
        headers: Mapping[str, str] | None = None,
        lane: RunTrigger = RunTrigger.MANUAL,
        once: bool = False,
        inside: str | None = None,
        watch: Watch | None = None,
    ) -> Reply:
        """Send a request to Graph through the proxy; ``target`` is a path with its query.

        The target goes out byte for byte. Answers of Graph come back whatever their status;
        Nango's own failures and those of the network are raised. Waits for the budgets and
        retries in place as long as the pause that is asked for is short; ``lane`` says on whose
        behalf the budget is spent. With ``once`` the request is sent once, and Graph's passing
        statuses come back, too. ``inside`` is a target within a ``$batch``: its budget is waited
        for.
        ``watch`` sees the beginning of an answer early, once the gate has heeded its headers.

        Raises Later (out of tries), Spent, Outage, Broken, Halt, Torn.
        """
        own = {
            "Retries": "0",
            "Nango-Proxy-Accept": "application/json",
            "Nango-Proxy-User-Agent": USER_AGENT,
            "Nango-Proxy-X-Ms-Throttle-Priority": "low",
            "Nango-Proxy-Client-Request-Id": str(uuid.uuid4()),
            **{f"Nango-Proxy-{name}": value for name, value in (headers or {}).items()},
        }
        try:
            sent = address.headers() | own
            asked = _Asked(method, target, sent, body, str(address), lane, once, inside, watch)
            return self._patiently(asked)
        except Trouble as trouble:
            trouble.connection = trouble.connection or str(address)
            raise

    def ask(self, target: str) -> Reply:
        """GET Nango's own API. Nango's own 400 and 404 come back for the caller to judge."""
        return self._patiently(_Asked("GET", target))

    def heed(self, address: Address, target: str, reply: Reply) -> None:
        """Let the customer's budget know what an answer, also one inside a ``$batch``, told."""
        self.gate.heed(str(address), target, reply, self._clock())

    def waits_apart(self, address: Address, target: str) -> bool:
        """Whether Graph wants this target held back, and not what goes along in a ``$batch``."""
        if service_of(target) == DIRECTORY:
            return False
        return service_of(target) in self.gate.pauses([str(address)]).get(str(address), {})

    def _patiently(self, asked: "_Asked") -> Reply:
        self.diagnosis.admit(by_hand=asked.lane is RunTrigger.MANUAL)
        patience = self.patience
        began = time.monotonic()
        until = began + patience.deadline
        attempts = 1 if asked.once else ATTEMPTS

        def give_up(state: RetryCallState) -> bool:
            if state.outcome is None:
                return False
            fault = state.outcome.exception()
            named = fault.after or 0.0 if isinstance(fault, Retry) else 0.0
            slow = isinstance(fault, Retry) and fault.slow and state.attempt_number >= SLOW_ATTEMPTS
            late = time.monotonic() + state.upcoming_sleep >= until
            return slow or late or named > patience.pause

        retrying = Retrying(
            retry=retry_if_exception_type(Retry),
            stop=lambda state: stop_after_attempt(attempts)(state) or give_up(state),
            wait=_pause,
            reraise=True,
        )
        try:
            return retrying(self._once, asked, until)
        except Doubtful as doubtful:
            raise self.diagnosis.decide(doubtful) from None
        except Retry as trouble:
            if not asked.answered.is_set():
                self.gate.health.note_unanswered(time.monotonic() - began)
            # Who asks once has not waited in vain: only a pause that was named is told.
            least = 0.0 if asked.once else patience.pause
            raise exhausted(trouble, least, proven=self.diagnosis.has_worked()) from None

    def _once(self, asked: "_Asked", until: float) -> Reply:
        self._pass_gate(asked, until)
        reply = self._send(asked, until)
        now = self._clock()
        if shows_that_nango_works(reply):
            asked.answered.set()
            self.gate.health.note_worked()
            if asked.address is None and reply.status in (400, 404):
                return reply
        trouble = nango_trouble(reply, now)
        if isinstance(trouble, Limited):
            self.gate.pause_account(trouble.after or 1.0)
        if trouble is not None:
            raise trouble
        if asked.address is not None:
            if reply.status != HTTPStatus.OK:
                self.gate.heed(asked.address, asked.target, reply, now)
            if not asked.once:
                _throttled(reply, now)
        return reply

    def _question(self, seconds: float) -> Reply:
        """Sent whatever the budget: it is one call of all workers in a few seconds."""
        until = time.monotonic() + min(seconds, self.patience.deadline)
        return self._send(_Asked("GET", QUESTION), until)

    def _pass_gate(self, asked: "_Asked", until: float) -> None:
        """Wait for the budgets, if that is short. Raises Spent where it is not."""
        while True:
            seconds, why = self.gate.wait(asked.address or "", asked.charged, asked.lane)
            if seconds <= 0:
                return
            # The call itself needs its time, too.
            latest = until - self.patience.deadline / 2
            if seconds > self.patience.pause or time.monotonic() + seconds > latest:
                raise Spent(why, after=seconds)
            time.sleep(seconds + 0.2 * random.random())

    def _send(self, asked: "_Asked", until: float) -> Reply:
        with self._lock:
            self._calls += 1
        request = Request(asked.method, asked.path, asked.headers, asked.body, asked.watch)
        return self._exchange.send(request, until, lambda head: self._heed_head(asked, head))

    def _heed_head(self, asked: "_Asked", head: Reply) -> None:
        """What the headers tell counts for the next call, which may leave before the body is here.

        Whether a refusal is Graph's own or Nango's is only known from its body.
        """
        now = self._clock()
        self.gate.learn(head, now)
        if asked.address is not None and head.status == HTTPStatus.OK:
            self.gate.heed(asked.address, asked.target, head, now)


def _throttled(reply: Reply, now: float) -> None:
    """A passing status is worth trying again; 501 says that it never will."""
    if reply.status in PASSING:
        after = reply.retry_after(now)
        retry = Retry(f"Graph answered {reply.status}", after=after)
        retry.status = reply.status
        retry.slow = is_slow(reply) and after is None
        raise retry


_backoff = wait_random_exponential(multiplier=0.5, max=10)


def _pause(state: RetryCallState) -> float:
    """What the service asked for, else a growing pause with jitter."""
    fault = state.outcome.exception() if state.outcome else None
    if isinstance(fault, Retry) and fault.after is not None:
        return fault.after + 0.1 * _backoff(state)
    return _backoff(state)
