"""The OpenAPI document of the API, made from the table of routes."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import msgspec

from models.api_token import Scope
from worker.web.call import Call
from worker.web.endpoint import Endpoint, Exemption, Reply
from worker.web.meanings import describe_values
from worker.web.problem import PROBLEM_TYPE, Problem
from worker.web.respond import MAX_ID

_REFERENCE: Final = "#/components/schemas/{name}"
_ID: Final = re.compile(r"\{(\w+)\}")
_SECURITY: Final = "token"
_STATUSES_OF_ALL: Final = (400, 405, 413, 414, 421, 422, 500, 503)
_STATUSES_OF_TOKENS: Final = (401, 403, 429)
_DESCRIPTION: Final = (
    "What Tenant Mirror knows of its connections, and what operators can do about them. Lists are "
    'paged: pass `next` of one answer as `after` of the next request. Filters combine with "and", '
    'the values of one filter with "or". Every GET route answers HEAD, too, without a body. '
    "Severities are, in rising order: info, warning, error, critical. Every error is a problem of "
    "RFC 9457. Every answer has `X-Request-Id`, which the log and the audit show."
)
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
_IDEMPOTENCY: Final = {
    "name": IDEMPOTENCY_HEADER,
    "in": "header",
    "required": False,
    "description": "The same key with the same body gets the same answer for a day, and the action "
    "is done once; with another body it is refused.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,100}$"},
}


def get_document(call: Call) -> Reply:
    return Reply(
        render_document(call.context.endpoints), headers={"Content-Type": "application/json"}
    )


@cache
def render_document(endpoints: tuple[Endpoint, ...]) -> bytes:
    """Return the document as JSON for people."""
    made = msgspec.json.encode(build_document(endpoints))
    return msgspec.json.format(made, indent=2) + b"\n"


def build_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these routes. Pure."""
    structs = _list_structs(endpoints)
    _, schemas = msgspec.json.schema_components(structs, ref_template=_REFERENCE)
    for name, about in describe_values().items():
        if name in schemas:
            schemas[name]["description"] = about
    queries = {one.query.__name__ for one in endpoints}
    paths: dict[str, Any] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _describe_route(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tenant Mirror",
            "version": "1",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {
                name: schema for name, schema in sorted(schemas.items()) if name not in queries
            },
            "securitySchemes": {
                _SECURITY: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of 'tenant-mirror tokens create'.",
                }
            },
            "responses": {"Problem": _describe_body("A problem.", PROBLEM_TYPE, Problem)},
        },
    }


def _list_structs(endpoints: Iterable[Endpoint]) -> list[type[msgspec.Struct]]:
    found: dict[type[msgspec.Struct], None] = {Problem: None}
    for one in endpoints:
        for struct in (one.query, one.body, one.returns, one.preview):
            if struct is not None:
                found[struct] = None
    return list(found)


def _describe_route(one: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "security": list(_list_security(one.access)),
        "responses": _describe_responses(one),
    }
    parameters = [*_list_ids(one.path), *_list_query(one, schemas)]
    if one.status == HTTPStatus.ACCEPTED:
        parameters.append(_IDEMPOTENCY)
    if parameters:
        described["parameters"] = parameters
    if one.body is not None:
        described["requestBody"] = {
            "required": bool(schemas[one.body.__name__].get("required")),
            "content": {"application/json": {"schema": _refer(one.body)}},
        }
    if isinstance(one.access, Scope):
        described["description"] = f"Needs the scope `{one.access}`."
    return described


def _list_security(access: Scope | Exemption) -> Iterator[dict[str, list[str]]]:
    if isinstance(access, Exemption):
        yield {}
    match access:
        case Scope():
            yield {_SECURITY: [access.value]}
        case Exemption.WORDS:
            yield {_SECURITY: [Scope.READ.value]}
        case Exemption.LOCAL:
            yield {_SECURITY: [Scope.METRICS.value]}


def _describe_responses(one: Endpoint) -> dict[str, Any]:
    refusals = {*_STATUSES_OF_ALL, *one.refusals}
    if one.access is not Exemption.OPEN:
        refusals |= set(_STATUSES_OF_TOKENS)
    if _ID.search(one.path):
        refusals.add(404)
    if one.body is not None:
        refusals.add(415)
    good = "Accepted; the work is done by the workers." if one.status == 202 else "The answer."
    responses = {one.status: _describe_body(good, one.media_type, one.returns)}
    if one.status == 202:
        responses[202]["headers"] = {
            "Location": {
                "description": "Where to ask for the operation.",
                "schema": {"type": "string"},
            }
        }
    if one.preview is not None:
        responses[200] = _describe_body("What it would do.", one.media_type, one.preview)
    for status in refusals:
        responses[status] = {"$ref": "#/components/responses/Problem"}
    if one.unwell is not None:
        bad = _describe_body(HTTPStatus(one.unwell).phrase, one.media_type, one.returns)
        bad["content"][PROBLEM_TYPE] = {"schema": _refer(Problem)}
        responses[one.unwell] = bad
    return {str(status): responses[status] for status in sorted(responses)}


def _describe_body(
    description: str, media_type: str, struct: type[msgspec.Struct] | None
) -> dict[str, Any]:
    schema = {} if struct is None else _refer(struct)
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _refer(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=struct.__name__)}


def _list_ids(path: str) -> Iterator[dict[str, Any]]:
    for name in _ID.findall(path):
        schema = {"type": "integer", "minimum": 0, "maximum": MAX_ID}
        about = f"number of the {name.removesuffix('_id')}"
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": about,
            "schema": schema,
        }


def _list_query(one: Endpoint, schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    declared = schemas[one.query.__name__]
    for name, schema in declared.get("properties", {}).items():
        found = dict(schema)
        parameter = {
            "name": name,
            "in": "query",
            "required": name in declared.get("required", ()),
            "schema": found,
        }
        if about := found.pop("description", None):
            parameter["description"] = about
        yield parameter
