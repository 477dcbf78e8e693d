"""Builds faulty responses, as Graph, Nango and gateways in between send them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from time import time

from sandbox.tenant.errors import GraphError, NangoError, build_sharepoint_throttled
from sandbox.tenant.http import Request, Response, build_nango_error, json_response

RESYNC_LOCATION = "https://graph.microsoft.com/v1.0/{path}?$deltatoken="
_HTML = b"<!doctype html><html><head><title>%b</title></head><body>%b</body></html>"


@dataclass(slots=True)
class FaultContext:
    """One request that gets a fault, and the parameters of the fault."""

    request: Request
    rng: Random
    get_response: Callable[[], Response]
    """Returns the response without the fault."""
    build_refusal: Callable[[GraphError], Response]
    max_retry_after: float
    """The longest Retry-After, in seconds."""
    stall: float

    def draw_retry_after(self) -> float:
        return self.rng.uniform(0, self.max_retry_after)


FaultResponse = Callable[[FaultContext], Response]


# -- responses of Graph ---------------------------------------------------------------------------


def build_graph_error(status: int, code: str, message: str, **headers: str) -> FaultResponse:
    def make(hit: FaultContext) -> Response:
        return hit.build_refusal(GraphError(status, code, message, headers))

    return make


def throttle(hit: FaultContext, retry_after: str | None) -> Response:
    response = hit.build_refusal(GraphError(429, "TooManyRequests", "Please retry again later."))
    if retry_after is not None:
        response.headers["retry-after"] = retry_after
    return response


def throttle_in_decimals(hit: FaultContext) -> Response:
    return throttle(hit, f"{hit.draw_retry_after():.3f}")


def throttle_in_whole_seconds(hit: FaultContext) -> Response:
    return throttle(hit, str(round(hit.draw_retry_after())))


def throttle_until_date(hit: FaultContext) -> Response:
    moment = datetime.now(UTC) + timedelta(seconds=hit.draw_retry_after())
    return throttle(hit, format_datetime(moment, usegmt=True))


def throttle_in_lower_case(hit: FaultContext) -> Response:
    response = throttle_in_decimals(hit)
    response.keeps_header_case = True
    return response


def throttle_sharepoint(hit: FaultContext) -> Response:
    return hit.build_refusal(
        build_sharepoint_throttled(429, {"retry-after": str(round(hit.draw_retry_after()))})
    )


def refuse_unavailable(hit: FaultContext) -> Response:
    response = hit.build_refusal(
        GraphError(503, "serviceNotAvailable", "The service is unavailable.")
    )
    response.headers["retry-after"] = str(round(hit.draw_retry_after()))
    return response


def expire_token(code: str, status: int = 410, *, location: bool = False) -> FaultResponse:
    def make(hit: FaultContext) -> Response:
        path = hit.request.path.removeprefix("v1.0/")
        headers = {"location": RESYNC_LOCATION.format(path=path)} if location else None
        return hit.build_refusal(GraphError(status, code, "The sync state is not found.", headers))

    return make


# -- responses of gateways and networks -----------------------------------------------------------


def build_html(status: int, title: bytes) -> FaultResponse:
    return lambda _: Response(status, _HTML % (title, title), {"content-type": "text/html"})


def build_empty(status: int) -> FaultResponse:
    return lambda _: Response(status, chunked=False)


def build_gateway_error(status: int) -> FaultResponse:
    """Return JSON of a gateway in front of Nango, in neither Nango's nor Graph's format."""
    return lambda _: json_response({"message": "Forbidden"}, status)


def truncate_body(hit: FaultContext) -> Response:
    response = hit.get_response()
    response.body = response.body[: hit.rng.randrange(1, max(len(response.body), 2))]
    return response


def cut_connection(hit: FaultContext) -> Response:
    response = hit.get_response()
    response.cut_after = hit.rng.randrange(max(len(response.body), 1))
    return response


def reset_connection(hit: FaultContext) -> Response:
    response = hit.get_response()
    response.reset = True
    return response


def reset_mid_body(hit: FaultContext) -> Response:
    response = cut_connection(hit)
    response.reset = True
    return response


def stall_response(hit: FaultContext) -> Response:
    response = hit.get_response()
    response.delay += hit.stall
    return response


def trickle_body(hit: FaultContext) -> Response:
    response = hit.get_response()
    response.trickle_delay = hit.stall / 8
    return response


def omit_batch_item(hit: FaultContext) -> Response:
    response = hit.get_response()
    response.omitted_from_batch = True
    return response


def fail_batch_424(hit: FaultContext) -> Response:
    """Throttle every item, with 424 as the status of the whole batch."""
    response = hit.get_response()
    response.status = 424
    return response


# -- responses of Nango ---------------------------------------------------------------------------


def build_network_error(code: str, message: str) -> FaultResponse:
    def make(hit: FaultContext) -> Response:
        content = {"message": message, "code": code, "method": hit.request.method.lower()}
        return json_response(content, 500)

    return make


def build_nango_fault(
    status: int, code: str, message: str | None = None, **extra: object
) -> FaultResponse:
    return lambda _: build_nango_error(NangoError(status, code, message, **extra))


def build_rate_limited(hit: FaultContext) -> Response:
    path = hit.request.path
    path = path if path.startswith("/") else f"/proxy/{path}"
    extra = {"method": hit.request.method, "path": path}
    response = build_nango_error(NangoError(429, "too_many_request", **extra))
    seconds = hit.draw_retry_after()
    response.headers["retry-after"] = str(int(seconds))
    response.headers["x-ratelimit-remaining"] = "0"
    response.headers["x-ratelimit-reset"] = str(round(time() + seconds))
    return response
