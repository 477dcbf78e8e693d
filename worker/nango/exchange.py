"""One exchange over HTTP: a request goes out, its answer comes in, and may be watched meanwhile."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, Protocol

import httpx
import msgspec

from worker.core.bounded_net import BoundedBackend
from worker.core.errors import Halt, Retry, Torn, Trouble
from worker.core.proxy import ProxiedBackend
from worker.core.transport import DEADLINE, BoundedTransport, Way, packing
from worker.nango.reply import Reply
from worker.nango.verdict import transport_trouble

MAX_BODY = 64 * 1024 * 1024
HEAD = 64 * 1024
"""How much of an answer is watched; a link that is further behind is seen at its end."""


_GZIP: Final = b"\x1f\x8b"
"""How what gzip has packed begins."""


class Watch(Protocol):
    """Follows one request while it is under way, on the thread that sends it."""

    def sent(self) -> None:
        """The request has gone out."""

    def look(self, head: bytes) -> bool:
        """See what has come so far of an answer with 200; whether that was enough.

        Begins anew where the answer breaks off and the request is sent once more.
        """


@dataclass(frozen=True)
class Request:
    """What goes out; ``path`` has its query and is sent byte for byte."""

    method: str
    path: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    watch: Watch | None = None


class Exchange:
    """The connections to one host, kept open. Safe to use from several threads."""

    def __init__(self, host: str, key: str, way: Way | None = None) -> None:
        """Raises Halt."""
        proxy = None if way is None else way.proxy
        self._base = _base(host)
        self._prefix = self._base.raw_path.rstrip(b"/")
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            transport=BoundedTransport(
                BoundedBackend() if proxy is None else ProxiedBackend(proxy, by_name=True),
                trust=None if way is None else way.trust,
                max_connections=16,
                keepalive_seconds=45.0,
            ),
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def send(self, request: Request, until: float, heed: Callable[[Reply], None]) -> Reply:
        """Send it and receive the answer; ``heed`` has its head before anybody sees its body.

        All of it, from the lookup of the name to the last byte, ends at ``until``.
        Raises Retry, Torn, Halt.
        """
        url = self._base.copy_with(raw_path=self._prefix + request.path)
        options = _options(request, until)
        try:
            with self._http.stream(request.method, url, **options) as response:
                head = Reply(response.status_code, b"", _lowered(response.headers))
                heed(head)
                watch = request.watch if head.status == HTTPStatus.OK else None
                return replace(head, body=_received(response, until, watch))
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            raise transport_trouble(fault) from fault


def _options(request: Request, until: float) -> dict[str, Any]:
    extensions: dict[str, Any] = {DEADLINE: until}
    options: dict[str, Any] = {"headers": request.headers, "extensions": extensions}
    if request.body is not None:
        options["content"] = msgspec.json.encode(request.body)
        options["headers"] = {**request.headers, "Content-Type": "application/json"}
    if request.watch is not None:
        extensions["trace"] = _telling(request.watch)
    return options


def _received(response: httpx.Response, until: float, watch: Watch | None) -> bytes:
    data = bytearray()
    packed = packing(response)
    for chunk in response.iter_raw():
        if packed is not None:
            raise _packed(packed, chunk)
        data += chunk
        if watch is not None and (watch.look(bytes(data)) or len(data) >= HEAD):
            watch = None
        if len(data) > MAX_BODY:
            torn = Torn(f"an answer of more than {MAX_BODY >> 20} MB", after=600)
            torn.slow = True
            raise torn
        if time.monotonic() > until:
            retry = Retry("Nango's answer took too long")
            retry.slow = True
            raise retry
    return bytes(data)


def _packed(how: str, beginning: bytes) -> Trouble:
    """What it means that an answer came packed, which was not asked for; it is never unpacked."""
    if how in ("gzip", "x-gzip") and not beginning.startswith(_GZIP):
        return Retry("an answer says that it is packed, and is not")
    return Torn(
        f"an answer came packed ({how}), which was not asked for, and could become more than "
        f"{MAX_BODY >> 20} MB; check what stands in front of Nango",
        after=600,
    )


def _telling(watch: Watch) -> Callable[[str, object], None]:
    """For httpcore, which names each step of a request; this is the last before the answer."""

    def trace(step: str, _: object) -> None:
        if step.endswith(".send_request_body.complete"):
            watch.sent()

    return trace


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
