"""How a reply is spoilt: what Graph, Nango and all in between send when things go wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from time import time

from sandbox.tenant.errors import GraphError, NangoError
from sandbox.tenant.throttle import busy
from sandbox.tenant.wire import Request, Response, json_response, nango_refusal

LOCATION = "https://graph.microsoft.com/v1.0/{path}?$deltatoken="
_HTML = b"<!doctype html><html><head><title>%b</title></head><body>%b</body></html>"


@dataclass(slots=True)
class Hit:
    """One request that gets a fault, and what a fault may need."""

    request: Request
    rng: Random
    answer: Callable[[], Response]
    """The reply that there would have been."""
    refuse: Callable[[GraphError], Response]
    retry_after: float
    """The longest Retry-After, in seconds."""
    stall: float

    def seconds(self) -> float:
        return self.rng.uniform(0, self.retry_after)


Make = Callable[[Hit], Response]


# -- Graph's replies ------------------------------------------------------------------------------


def error(status: int, code: str, message: str, **headers: str) -> Make:
    def make(hit: Hit) -> Response:
        return hit.refuse(GraphError(status, code, message, headers))

    return make


def throttled(hit: Hit, retry_after: str | None) -> Response:
    response = hit.refuse(GraphError(429, "TooManyRequests", "Please retry again later."))
    if retry_after is not None:
        response.headers["retry-after"] = retry_after
    return response


def in_decimals(hit: Hit) -> Response:
    return throttled(hit, f"{hit.seconds():.3f}")


def in_whole_seconds(hit: Hit) -> Response:
    return throttled(hit, str(round(hit.seconds())))


def as_a_date(hit: Hit) -> Response:
    moment = datetime.now(UTC) + timedelta(seconds=hit.seconds())
    return throttled(hit, format_datetime(moment, usegmt=True))


def in_lower_case(hit: Hit) -> Response:
    response = in_decimals(hit)
    response.verbatim = True
    return response


def sharepoint(hit: Hit) -> Response:
    return hit.refuse(busy(429, {"retry-after": str(round(hit.seconds()))}))


def unavailable(hit: Hit) -> Response:
    response = hit.refuse(GraphError(503, "serviceNotAvailable", "The service is unavailable."))
    response.headers["retry-after"] = str(round(hit.seconds()))
    return response


def gone(code: str, status: int = 410, *, location: bool = False) -> Make:
    def make(hit: Hit) -> Response:
        path = hit.request.path.removeprefix("v1.0/")
        headers = {"location": LOCATION.format(path=path)} if location else None
        return hit.refuse(GraphError(status, code, "The sync state is not found.", headers))

    return make


# -- replies of what stands in between ------------------------------------------------------------


def html(status: int, title: bytes) -> Make:
    return lambda _: Response(status, _HTML % (title, title), {"content-type": "text/html"})


def empty(status: int) -> Make:
    return lambda _: Response(status, chunked=False)


def foreign(status: int) -> Make:
    """JSON of a gateway in front of Nango, which is neither Nango's nor Graph's."""
    return lambda _: json_response({"message": "Forbidden"}, status)


def truncated(hit: Hit) -> Response:
    response = hit.answer()
    response.body = response.body[: hit.rng.randrange(1, max(len(response.body), 2))]
    return response


def cut(hit: Hit) -> Response:
    response = hit.answer()
    response.cut = hit.rng.randrange(max(len(response.body), 1))
    return response


def reset(hit: Hit) -> Response:
    response = hit.answer()
    response.reset = True
    return response


def reset_midway(hit: Hit) -> Response:
    response = cut(hit)
    response.reset = True
    return response


def stalled(hit: Hit) -> Response:
    response = hit.answer()
    response.delay += hit.stall
    return response


def trickling(hit: Hit) -> Response:
    response = hit.answer()
    response.trickle = hit.stall / 8
    return response


def lost(hit: Hit) -> Response:
    response = hit.answer()
    response.lost = True
    return response


def whole_batch_424(hit: Hit) -> Response:
    """Every item is throttled, and the envelope says 424."""
    response = hit.answer()
    response.status = 424
    return response


# -- Nango's replies ------------------------------------------------------------------------------


def network(code: str, message: str) -> Make:
    def make(hit: Hit) -> Response:
        content = {"message": message, "code": code, "method": hit.request.method.lower()}
        return json_response(content, 500)

    return make


def nango(status: int, code: str, message: str | None = None, **extra: object) -> Make:
    return lambda _: nango_refusal(NangoError(status, code, message, **extra))


def limited(hit: Hit) -> Response:
    path = hit.request.path
    path = path if path.startswith("/") else f"/proxy/{path}"
    extra = {"method": hit.request.method, "path": path}
    response = nango_refusal(NangoError(429, "too_many_request", **extra))
    seconds = hit.seconds()
    response.headers["retry-after"] = str(int(seconds))
    response.headers["x-ratelimit-remaining"] = "0"
    response.headers["x-ratelimit-reset"] = str(round(time() + seconds))
    return response
