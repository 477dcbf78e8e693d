"""Makes a route of the router: reads the request, and lets a thread answer it."""

from collections.abc import Callable
from functools import partial

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from worker.web.gate import DATA_POLICY, get_record, read_body
from worker.web.respond import Answered, RawRequest

Answer = Callable[[RawRequest], Answered]


def build_route(
    method: str,
    path: str,
    name: str,
    answer: Answer,
    *,
    threads: CapacityLimiter | None,
    has_body: bool,
    is_quiet: bool = False,
    policy: bytes = DATA_POLICY,
) -> Route:
    """Return a route that answers in a thread; without ``threads`` it needs no server, and none."""

    async def handle(request: Request) -> Response:
        record = get_record(request.scope)
        record.route, record.is_quiet, record.policy = path, is_quiet, policy
        try:
            body = await read_body(request) if has_body else b""
        except ClientDisconnect:
            return Response(status_code=400)  # the client has gone
        work = partial(answer, _build_raw(request, body))
        if threads is None:
            answered = work()
        else:
            # Beyond the deadline its thread ends by itself: statements have a time limit.
            answered = await to_thread.run_sync(work, limiter=threads, abandon_on_cancel=True)
        record.name = answered.name
        return answered.response

    return Route(path, handle, methods=[method], name=name)


def _build_raw(request: Request, body: bytes) -> RawRequest:
    scope = request.scope
    record = get_record(scope)
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
    return RawRequest(
        record.request_id,
        record.client,
        scope["path"],
        request.path_params,
        scope["query_string"],
        body,
        headers,
    )
