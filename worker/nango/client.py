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
from http.cookiejar import CookieJar, DefaultCookiePolicy
from threading import Lock
from typing import Any

import httpx
import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from models.run import RunTrigger
from worker.core.errors import Broken, Halt, Retry, Spent, Torn, Trouble
from worker.nango.gate import DIRECTORY, Gate, service_of
from worker.nango.reply import Reply
from worker.nango.verdict import Limited, exhausted, nango_trouble, transport_trouble

MAX_BODY = 64 * 1024 * 1024
ATTEMPTS = 5
CONNECT_SECONDS = 10.0
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
    ) -> None:
        self.patience = patience or Patience()
        self.gate = gate or Gate()
        self._clock = clock
        self._base = _base(host)
        self._prefix = self._base.raw_path.rstrip(b"/")
        self._calls = 0
        self._proven = False
        self._lock = Lock()
        if not _KEY.fullmatch(key):
            raise Halt("NANGO_SECRET_KEY holds characters that no key has")
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            limits=httpx.Limits(max_connections=16, keepalive_expiry=45.0),
            follow_redirects=False,
            trust_env=False,
        )

    @property
    def calls(self) -> int:
        """Requests sent so far, failed ones included: what Nango counts."""
        return self._calls

    def close(self) -> None:
        """Let go of the connections, those of the budgets included."""
        self._http.close()
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
    ) -> Reply:
        """Send a request to Graph through the proxy; ``target`` is a path with its query.

        The target goes out byte for byte. Answers of Graph come back whatever their status;
        Nango's own failures and those of the network are raised. Waits for the budgets and
        retries in place as long as the pause that is asked for is short; ``lane`` says on whose
        behalf the budget is spent. With ``once`` the request is sent once, and Graph's 429 and
        5xx come back, too. ``inside`` is a target within a ``$batch``: its budget is waited for.

        Raises Later (out of tries), Spent, Broken, Halt, Torn.
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
            asked = _Asked(method, target, sent, body, str(address), lane, once, inside)
            return self._patiently(asked)
        except Trouble as trouble:
            trouble.connection = trouble.connection or str(address)
            raise

    def ask(self, target: str) -> Reply:
        """GET Nango's own API. 400 and 404 come back for the caller to judge."""
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
        patience = self.patience
        until = time.monotonic() + patience.deadline
        attempts = 1 if asked.once else ATTEMPTS

        def give_up(state: RetryCallState) -> bool:
            if state.outcome is None:
                return False
            fault = state.outcome.exception()
            named = fault.after or 0.0 if isinstance(fault, Retry) else 0.0
            return named > patience.pause or time.monotonic() + state.upcoming_sleep >= until

        retrying = Retrying(
            retry=retry_if_exception_type(Retry),
            stop=lambda state: stop_after_attempt(attempts)(state) or give_up(state),
            wait=_pause,
            reraise=True,
        )
        try:
            return retrying(self._once, asked, until)
        except Retry as trouble:
            # Who asks once has not waited in vain: only a pause that was named is told.
            least = 0.0 if asked.once else patience.pause
            raise exhausted(trouble, least, proven=self._proven) from None

    def _once(self, asked: "_Asked", until: float) -> Reply:
        self._pass_gate(asked, until)
        reply = self._send(asked, until)
        now = self._clock()
        self.gate.learn(reply, now)
        if asked.address is None and reply.status in (400, 404):
            return reply
        trouble = nango_trouble(reply, now)
        if isinstance(trouble, Limited):
            self.gate.pause_account(trouble.after or 1.0)
        if trouble is not None:
            raise trouble
        self._proven = True
        if asked.address is not None:
            self.gate.heed(asked.address, asked.target, reply, now)
            if not asked.once:
                _throttled(reply, now)
        return reply

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
        method, headers, body = asked.method, asked.headers, asked.body
        url = self._base.copy_with(raw_path=self._prefix + asked.path)
        left = max(until - time.monotonic(), 0.01)
        connect = min(left, CONNECT_SECONDS)
        options: dict[str, Any] = {"timeout": httpx.Timeout(left, connect=connect, pool=connect)}
        if body is not None:
            options["content"] = msgspec.json.encode(body)
            headers = {**headers, "Content-Type": "application/json"}
        try:
            with self._http.stream(method, url, headers=headers, **options) as response:
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > MAX_BODY:
                        raise Torn(f"an answer of more than {MAX_BODY >> 20} MB", after=600)
                    if time.monotonic() > until:
                        raise Retry("Nango's answer took too long")
                return Reply(response.status_code, bytes(data), _lowered(response.headers))
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            raise transport_trouble(fault) from fault


def _base(host: str) -> httpx.URL:
    try:
        url = httpx.URL(host)
    except httpx.InvalidURL:
        raise Halt("NANGO_HOST is not an address") from None
    if url.port is not None and not 0 < url.port < 65_536:
        raise Halt("NANGO_HOST has a port that there is not")
    return url


def _lowered(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _throttled(reply: Reply, now: float) -> None:
    """Graph's 429 and 5xx are worth trying again; 501 says that it never will."""
    if reply.status in (429, 500, 502, 503, 504, 509):
        after = reply.retry_after(now)
        raise Retry(f"Graph answered {reply.status}", after=after)


_backoff = wait_random_exponential(multiplier=0.5, max=10)


def _pause(state: RetryCallState) -> float:
    """What the service asked for, else a growing pause with jitter."""
    fault = state.outcome.exception() if state.outcome else None
    if isinstance(fault, Retry) and fault.after is not None:
        return fault.after + 0.1 * _backoff(state)
    return _backoff(state)
