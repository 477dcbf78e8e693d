"""The ASGI application: the router that the table makes, behind the gate of every request."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from worker.web.context import WebContext
from worker.web.endpoint import Endpoint, Exemption
from worker.web.gate import AnswerRefusal, RequestGate, get_record
from worker.web.problem import RequestRefused, refuse_internal
from worker.web.respond import answer_request, build_problem_response
from worker.web.route import build_route

_QUIET: Final = (Exemption.WORDS, Exemption.LOCAL)
"""Routes that monitors ask every few seconds; their good answers are not logged."""


def answer_with_problem(scope: Scope, refusal: RequestRefused) -> Response:
    """Return the response to a request that no route has answered."""
    return build_problem_response(refusal, get_record(scope).request_id)


def build_app(
    context: WebContext,
    routes: Sequence[Route] = (),
    answer_refusal: AnswerRefusal = answer_with_problem,
) -> ASGIApp:
    """Return the application that serves the routes of the context, and further ones."""

    async def answer_unknown(request: Request, error: Exception) -> Response:
        return answer_refusal(request.scope, _build_refusal(error))

    app = Starlette(
        routes=[*(_build_endpoint(context, one) for one in context.endpoints), *routes],
        exception_handlers={HTTPException: answer_unknown, RequestRefused: answer_unknown},
    )
    # A redirect would be made from the Host header.
    app.router.redirect_slashes = False
    return RequestGate(app, context, answer_refusal)


def _build_endpoint(context: WebContext, endpoint: Endpoint) -> Route:
    is_quiet = endpoint.access in _QUIET
    threads = context.health_threads if is_quiet else context.threads
    return build_route(
        endpoint.method,
        endpoint.path,
        endpoint.name,
        partial(answer_request, context, endpoint),
        threads=None if endpoint.runs_inline else threads,
        has_body=endpoint.body is not None,
        is_quiet=is_quiet,
    )


def _build_refusal(error: Exception) -> RequestRefused:
    """Return the answer to what the router does not serve."""
    if isinstance(error, RequestRefused):
        return error
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            return RequestRefused(404, "not-found", "there is no such route; see /api/openapi.json")
        case 405:
            allowed = ", ".join(sorted((error.headers or {})["Allow"].split(", ")))
            return RequestRefused(
                405,
                "method-not-allowed",
                f"this route allows {allowed}",
                headers={"Allow": allowed},
            )
        case _:
            return refuse_internal()
