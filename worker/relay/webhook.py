"""Posts change events to a receiver, signed the Standard Webhooks way.

Neither bodies nor the url's path or query get into an error: a receiver's address may hold a key.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import time
import uuid
from collections.abc import Iterator, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, NamedTuple

import httpx

from worker.core.errors import Gone, Halt, Later, Trouble
from worker.core.transport import DEADLINE
from worker.events.envelope import BATCH_CONTENT_TYPE, CONTENT_TYPE
from worker.events.sink_settings import WebhookSettings, webhook_settings
from worker.nango.reply import retry_after
from worker.relay.address import PinnedTransport
from worker.relay.signature import key_of, signed_headers
from worker.relay.target import Envelope
from worker.store.sinks import Sink

PLAN: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds from a failure to the next try; the first try has no wait, the last repeats.

Whoever keeps the pause lets chance prolong it, so that sinks that failed together do not return so.
"""


SHORTEST_PAUSE: Final = 1.0
READ_BYTES: Final = 65_536
"""Of an answer's body, so that the connection can be used again; none of it is kept."""

BATCH_IDS: Final = uuid.UUID("0b8d2d1c-5d53-5b1e-9d43-7a1c4b7c8f02")
"""Namespace of the ids of requests with several events: the same events, the same id."""

_ADVICE: Final = {
    401: "check that the receiver has the sink's present secret",
    403: "check that the receiver has the sink's present secret",
    404: "check the path of the sink's url",
    405: "check the path of the sink's url; events are posted",
    413: "lower the sink's batch, or let the receiver take more",
    415: "let the receiver take CloudEvents in JSON",
}


class Answer(NamedTuple):
    """What came back."""

    status: int
    retry_after: str | None = None


class Message(NamedTuple):
    """One request's worth of events."""

    message_id: str
    content_type: str
    body: bytes
    event_ids: frozenset[str]


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return float(PLAN[min(max(failures, 1), len(PLAN)) - 1])


def messages(events: Sequence[Envelope], batch: int) -> Iterator[Message]:
    """The requests that carry some events, in order."""
    if batch == 1:
        for one in events:
            yield Message(one.event_id, CONTENT_TYPE, one.body, frozenset((one.event_id,)))
        return
    for begin in range(0, len(events), batch):
        part = events[begin : begin + batch]
        ids = [one.event_id for one in part]
        name = str(uuid.uuid5(BATCH_IDS, " ".join(ids)))
        body = b"[%b]" % b",".join(one.body for one in part)
        yield Message(name, BATCH_CONTENT_TYPE, body, frozenset(ids))


def verdict(answer: Answer, after: float, now: float) -> Trouble | None:
    """What an answer means; None: the events are delivered. ``after`` is the planned pause."""
    status = answer.status
    if 200 <= status < 300:
        return None
    if status == 410:
        return Gone(
            "the receiver answered 410: it wants no more events; "
            "'tenant-mirror sinks resume' takes it up again"
        )
    if 300 <= status < 400:
        return Later(
            f"the receiver answered {status}, a redirect, and none is followed; "
            "set the url that it leads to",
            after=after,
        )
    named = retry_after(answer.retry_after, now) if status in (429, 503) else None
    if named is not None:
        return Later(
            f"the receiver answered {status} and asks for {named:.0f} s",
            after=max(named, SHORTEST_PAUSE),
        )
    advice = _ADVICE.get(status, "look into the receiver's log")
    return Later(f"the receiver answered {status}; {advice}", after=after)


class WebhookTarget:
    """One receiver. Made by the thread that uses it."""

    def __init__(
        self,
        name: str,
        settings: WebhookSettings,
        secrets: Sequence[str],
        *,
        query: str = "",
        failures: int = 0,
    ) -> None:
        """``failures`` in a row are known from before. Raises Halt where a secret is none."""
        self._name = name
        self._settings = settings
        self._keys = [key_of(secret) for secret in secrets]
        self._url = f"{settings.url}?{query}" if query else settings.url
        self._failures = failures
        self._taken: dict[int, frozenset[str]] = {}
        self.answer: Answer | None = None
        self._transport = PinnedTransport(allow_private=settings.allow_private)
        self._http = httpx.Client(
            transport=self._transport,
            headers={"User-Agent": "TenantMirror/0.1"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            trust_env=False,
        )

    def deliver(self, events: Sequence[Envelope]) -> None:
        """Post the events in order; the first failure ends it.

        What the receiver took before a failure is not sent again by this process, else a long
        batch would never get past a receiver that fails now and then.
        """
        if not events:
            return
        owner = events[0].connection_id
        taken = self._taken.pop(owner, frozenset())
        left = [one for one in events if one.event_id not in taken]
        for message in messages(left, self._settings.batch):
            trouble = self._post(message)
            if trouble is not None:
                self._failures += 1
                self._taken[owner] = taken
                raise trouble
            self._failures = 0
            taken |= message.event_ids

    def end_by(self, moment: float) -> None:
        self._transport.end_by(moment)

    def close(self) -> None:
        self._http.close()

    def _post(self, message: Message) -> Trouble | None:
        after = pause(self._failures + 1)
        self.answer = None
        try:
            self.answer = self._send(message)
        except Later as trouble:
            return Later(self._about(trouble.message), after=after)
        except httpx.TimeoutException:
            seconds = f"{self._settings.timeout:g} s"
            return Later(self._about(f"the receiver did not answer within {seconds}"), after=after)
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            problem = f"the receiver cannot be reached ({_plain(fault)})"
            return Later(self._about(problem), after=after)
        found = verdict(self.answer, after, time.time())
        if found is None:
            return None
        return type(found)(self._about(found.message), after=found.after)

    def _about(self, problem: str) -> str:
        return f"sink '{self._name}' ({self._settings.host}): {problem}"

    def _send(self, message: Message) -> Answer:
        signed = signed_headers(self._keys, message.message_id, int(time.time()), message.body)
        headers = {"Content-Type": message.content_type, **signed}
        request = self._http.build_request(
            "POST",
            self._url,
            content=message.body,
            headers=headers,
            extensions={DEADLINE: time.monotonic() + self._settings.timeout},
        )
        response = self._http.send(request, stream=True)
        try:
            _read_on(response)
        finally:
            response.close()
        return Answer(response.status_code, response.headers.get("retry-after"))


def _read_on(response: httpx.Response) -> None:
    """Read the rest of a short answer. The status has said everything, so nothing here fails."""
    size = 0
    try:
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > READ_BYTES:
                return
    except httpx.TransportError:
        return


def _plain(fault: Exception) -> str:
    """The first line of a network error; httpx puts no addresses into those."""
    return str(fault).strip().split("\n", 1)[0][:200] or type(fault).__name__


def open_webhook(sink: Sink) -> WebhookTarget:
    """The receiver of a sink. Raises Halt where its settings or secrets make no sense."""
    keys = sink.secrets.get("keys")
    query = sink.secrets.get("query", "")
    if not isinstance(keys, list) or not keys:
        raise Halt(f"sink '{sink.name}' has no signing secret; remove it and add it anew")
    return WebhookTarget(
        sink.name,
        webhook_settings(sink.settings),
        [str(key) for key in keys],
        query=str(query),
        failures=sink.failures,
    )
