"""Post change events to a receiver, signed per Standard Webhooks.

Neither bodies nor the URL's path or query get into an error: a receiver's address may hold a key.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final, NamedTuple

import httpx

from worker.core.errors import (
    EventFailed,
    EventRefused,
    MirrorError,
    RetryLater,
    SinkGone,
    SinkMisconfigured,
)
from worker.core.net.retry_after import find_reference_time, parse_retry_after
from worker.core.net.transport import DEADLINE_EXTENSION, TransportConfig
from worker.core.settings import Settings
from worker.delivery.senders.address import PinnedTransport, build_transport_config
from worker.delivery.senders.sender import Envelope
from worker.delivery.senders.signature import build_signature_headers, parse_secret
from worker.delivery.settings import (
    WebhookSettings,
    parse_webhook_secrets,
    parse_webhook_settings,
)
from worker.delivery.store.sinks import Sink
from worker.events.envelope import BATCH_CONTENT_TYPE, CONTENT_TYPE

_CONNECT_ERRORS: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ProxyError,
    httpx.InvalidURL,
)

RETRY_DELAYS: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds from each failure to the next attempt; the last one repeats.

The caller adds random jitter, so that sinks that failed together do not retry together.
"""


MIN_RETRY_DELAY: Final = 1.0
MAX_DRAINED_BYTES: Final = 65_536
"""Bytes of a response body that are read and discarded to reuse the connection."""

BATCH_ID_NAMESPACE: Final = uuid.UUID("0b8d2d1c-5d53-5b1e-9d43-7a1c4b7c8f02")
"""Namespace of the ids of requests with several events: the same events have the same id."""

_RECEIVER_STATUSES: Final = frozenset(
    {401, 402, 403, 404, 405, 406, 407, 408, 411, 412, 414, 415, 417, 421, 425, 426, 428, 429, 431}
)
"""4xx statuses about the secret, the address, the kind of request or the receiver's load.

Any event would get them. Every other 4xx is about the events in the request.
"""

GROW_AFTER_REQUESTS: Final = 50
"""Requests with reduced batches before twice as many events are tried."""

_ADVICE: Final = {
    401: "check that the receiver has the sink's current secret",
    403: "check that the receiver has the sink's current secret",
    404: "check the path of the sink's url",
    405: "check the path of the sink's url; events are posted",
    413: "configure the receiver to accept larger requests",
    415: "configure the receiver to accept CloudEvents in JSON",
}


class WebhookResponse(NamedTuple):
    """A receiver's response."""

    status: int
    retry_after: str | None = None
    date: str | None = None
    """The time by the receiver's clock."""


class WebhookRequest(NamedTuple):
    """One request with its events."""

    message_id: str
    content_type: str
    body: bytes


def get_retry_delay(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row."""
    return float(RETRY_DELAYS[min(max(failures, 1), len(RETRY_DELAYS)) - 1])


def build_requests(events: Sequence[Envelope], batch: int) -> Iterator[WebhookRequest]:
    """Yield the requests that carry the events, in order."""
    if batch == 1:
        for one in events:
            yield WebhookRequest(one.event_id, CONTENT_TYPE, one.body)
        return
    for begin in range(0, len(events), batch):
        part = events[begin : begin + batch]
        ids = [one.event_id for one in part]
        name = str(uuid.uuid5(BATCH_ID_NAMESPACE, " ".join(ids)))
        body = b"[%b]" % b",".join(one.body for one in part)
        yield WebhookRequest(name, BATCH_CONTENT_TYPE, body)


def classify_webhook_response(
    answer: WebhookResponse, after: float, now: float
) -> MirrorError | None:
    """Return the error of a response; None if delivered. ``after`` is the planned pause."""
    status = answer.status
    if 200 <= status < 300:
        return None
    if status == 410:
        return SinkGone(
            "the receiver answered 410 and wants no more events; "
            "'tenant-mirror sinks resume' enables it again"
        )
    if 300 <= status < 400:
        return RetryLater(
            f"the receiver answered {status}, a redirect, and redirects are not "
            "followed; 'tenant-mirror sinks set-url' sets the url to its target",
            after=after,
        )
    clock = find_reference_time(answer.retry_after, answer.date, now)
    named = parse_retry_after(answer.retry_after, clock) if status in (413, 429, 503) else None
    wait = None if named is None else max(named, MIN_RETRY_DELAY)
    advice = _ADVICE.get(status, "see the receiver's log")
    if is_event_refusal(status):
        return EventRefused(f"the receiver answered {status}; {advice}", after=wait)
    if named is not None:
        return RetryLater(f"the receiver answered {status} and asks for {named:.0f} s", after=wait)
    kind = EventFailed if status >= 500 else RetryLater
    return kind(f"the receiver answered {status}; {advice}", after=after)


def is_event_refusal(status: int) -> bool:
    """Whether a status is about the events in the request, not about the receiver."""
    return 400 <= status < 500 and status != 410 and status not in _RECEIVER_STATUSES


class WebhookSender:
    """Posts to one receiver. Created by the thread that uses it."""

    def __init__(
        self,
        name: str,
        settings: WebhookSettings,
        secrets: Sequence[str],
        *,
        query: str = "",
        failures: int = 0,
        way: TransportConfig | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``failures`` is the earlier count in a row; ``now`` returns the Unix time to sign with.

        Raises InvalidInput if a secret is invalid.
        """
        self._now = now
        self._name = name
        self._settings = settings
        self._keys = [parse_secret(secret) for secret in secrets]
        self._url = f"{settings.url}?{query}" if query else settings.url
        self._failures = failures
        self._batch_size = settings.batch
        self._reduced_requests = 0
        self.sent_count = 0
        self.response: WebhookResponse | None = None
        way = way or TransportConfig()
        self._transport = PinnedTransport(
            allow_private=settings.allow_private,
            ssl_context=way.ssl_context,
            proxy=None if settings.direct else way.proxy,
            proxy_resolves=way.proxy_resolves,
        )
        self._http = httpx.Client(
            transport=self._transport,
            headers={"User-Agent": "TenantMirror/0.1", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            trust_env=False,
        )

    def send(self, events: Sequence[Envelope]) -> None:
        """Post the events in order, up to the first failure."""
        self.sent_count = 0
        while self.sent_count < len(events):
            self._send_part(events[self.sent_count : self.sent_count + self._batch_size])

    def _send_part(self, part: Sequence[Envelope]) -> None:
        """Post one request; if it is refused, post its halves, down to single events."""
        (message,) = build_requests(part, self._settings.batch)
        error = self._post(message)
        if error is None:
            self._record_sent(len(part))
            return
        if not isinstance(error, EventRefused) or len(part) == 1:
            raise error
        half = len(part) // 2
        self._send_part(part[:half])
        self._send_part(part[half:])
        # No single event was refused, so the batch was too large.
        self._batch_size, self._reduced_requests = min(self._batch_size, half), 0

    def _record_sent(self, count: int) -> None:
        """Record a successful request; after many reduced ones, try larger batches."""
        self._failures = 0
        self.sent_count += count
        if self._batch_size < self._settings.batch:
            self._reduced_requests += 1
            if self._reduced_requests >= GROW_AFTER_REQUESTS:
                self._batch_size, self._reduced_requests = (
                    min(2 * self._batch_size, self._settings.batch),
                    0,
                )

    def forget_failure(self) -> None:
        self._failures = max(0, self._failures - 1)

    def set_deadline(self, moment: float) -> None:
        self._transport.set_deadline(moment)

    def close(self) -> None:
        self._http.close()

    def _post(self, message: WebhookRequest) -> MirrorError | None:
        after = get_retry_delay(self._failures + 1)
        self.response = None
        try:
            self.response = self._send_request(message)
        except RetryLater as error:
            failure: MirrorError | None = RetryLater(error.message, after=after)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failure = _classify_network_error(error, self._settings.timeout, after)
        else:
            failure = classify_webhook_response(self.response, after, self._now())
        if failure is None:
            return None
        self._failures += 1
        return type(failure)(self._name_sink(failure.message), after=failure.after)

    def _name_sink(self, problem: str) -> str:
        return f"sink '{self._name}' ({self._settings.host}): {problem}"

    def _send_request(self, message: WebhookRequest) -> WebhookResponse:
        signed = build_signature_headers(
            self._keys, message.message_id, int(self._now()), message.body
        )
        headers = {"Content-Type": message.content_type, **signed}
        request = self._http.build_request(
            "POST",
            self._url,
            content=message.body,
            headers=headers,
            extensions={DEADLINE_EXTENSION: time.monotonic() + self._settings.timeout},
        )
        response = self._http.send(request, stream=True)
        try:
            _drain_body(response)
        finally:
            response.close()
        received = response.headers
        return WebhookResponse(
            response.status_code, received.get("retry-after"), received.get("date")
        )


def _classify_network_error(error: Exception, seconds: float, after: float) -> MirrorError:
    """Return the error if no response came; once connected, an event may be the cause."""
    reached = not isinstance(error, _CONNECT_ERRORS)
    kind = EventFailed if reached else RetryLater
    if isinstance(error, httpx.TimeoutException):
        return kind(f"the receiver did not answer within {seconds:g} s", after=after)
    return kind(f"the receiver cannot be reached ({_render_network_error(error)})", after=after)


def _drain_body(response: httpx.Response) -> None:
    """Read the rest of a short response. The status decides, so nothing here fails."""
    size = 0
    try:
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > MAX_DRAINED_BYTES:
                return
    except httpx.TransportError:
        return


def _render_network_error(error: Exception) -> str:
    """Return the first line of a network error, in which httpx puts no addresses."""
    return str(error).strip().split("\n", 1)[0][:400] or type(error).__name__


def open_webhook(
    sink: Sink, settings: Settings, now: Callable[[], float] = time.time
) -> WebhookSender:
    """Return the sender for a sink's receiver.

    Raises InvalidInput if its settings or secrets are invalid, SinkMisconfigured if it has no
    secret, ConfigurationError if certificates cannot be read.
    """
    secrets = parse_webhook_secrets(sink.secrets)
    if not secrets.keys:
        raise SinkMisconfigured(
            f"sink '{sink.name}' has no signing secret; remove it and add it again"
        )
    return WebhookSender(
        sink.name,
        parse_webhook_settings(sink.settings),
        [key.get_secret_value() for key in secrets.keys],
        query=secrets.query.get_secret_value(),
        failures=sink.failures,
        way=build_transport_config(settings),
        now=now,
    )
