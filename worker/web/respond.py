"""Answers one request in a thread: who asks, what is asked, the handler, the response."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from starlette.responses import Response

from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.web.authorize import authorize
from worker.web.call import Call
from worker.web.client_address import RequestOrigin
from worker.web.context import WebContext
from worker.web.decode import decode_body, decode_query
from worker.web.endpoint import Endpoint
from worker.web.problem import PROBLEM_TYPE, RequestRefused, refuse_error, refuse_internal

MAX_ID: Final = 2**63 - 1
_MAX_DIGITS: Final = len(str(MAX_ID))


class RawRequest(NamedTuple):
    """A request as it came."""

    request_id: str
    client: RequestOrigin
    path: str
    ids: Mapping[str, str]
    query: bytes
    body: bytes
    headers: Mapping[str, str]
    """By their names in lower case; of several with one name, the last."""


class Answered(NamedTuple):
    """A response, and the name of who asked, for the log."""

    response: Response
    name: str | None


def answer_request(context: WebContext, endpoint: Endpoint, raw: RawRequest) -> Answered:
    """Return the response to a request; errors become problems."""
    name = None
    try:
        principal = authorize(
            endpoint,
            raw.headers.get("authorization"),
            raw.client,
            context.verifier,
            context.failures,
        )
        name = principal.name if principal else None
        body = None
        if endpoint.body is not None:
            body = decode_body(raw.body, raw.headers.get("content-type"), endpoint.body)
        call = Call(
            context=context,
            principal=principal,
            route=f"{endpoint.method} {endpoint.path}",
            request_id=raw.request_id,
            ids={key: parse_id(value) for key, value in raw.ids.items()},
            query=decode_query(raw.query, endpoint.query),
            body=body,
            headers=raw.headers,
        )
        return Answered(_run_handler(endpoint, call), name)
    except RequestRefused as refusal:
        return Answered(build_problem_response(refusal, raw.request_id), name)
    except MirrorError as error:
        get_logger().warning(
            "request refused", request_id=raw.request_id, route=endpoint.path, reason=str(error)
        )
        return Answered(build_problem_response(refuse_error(error), raw.request_id), name)
    except Exception as error:  # noqa: BLE001 - it becomes a 500, and is in the log in full
        get_logger().error(
            "request failed", request_id=raw.request_id, route=endpoint.path, exc_info=error
        )
        return Answered(build_problem_response(refuse_internal(), raw.request_id), name)


def build_problem_response(refusal: RequestRefused, request_id: str) -> Response:
    return Response(
        msgspec.json.encode(refusal.build_problem(request_id)),
        status_code=refusal.status,
        headers=refusal.headers,
        media_type=PROBLEM_TYPE,
    )


def _run_handler(endpoint: Endpoint, call: Call) -> Response:
    reply = endpoint.answer(call)
    is_json = isinstance(reply.body, msgspec.Struct)
    return Response(
        msgspec.json.encode(reply.body) if is_json else reply.body,
        status_code=reply.status or endpoint.status,
        headers=dict(reply.headers),
        media_type=endpoint.media_type if is_json else None,
    )


def parse_id(text: str) -> int:
    """Return an id of a path. Raises RequestRefused: what is no id names nothing."""
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) <= MAX_ID:
        return int(text)
    raise RequestRefused(404, "not-found", f"an id is a whole number from 0 to {MAX_ID}")
