"""`$batch`: up to 20 requests in one, answered in any order.

Items run in the order of the request, except that an item waits for those it depends on.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from random import Random
from typing import Any

from sandbox.tenant.directory.state import Directory
from sandbox.tenant.errors import GraphError
from sandbox.tenant.graph.service import VERSION
from sandbox.tenant.http import Request, Response, encode

MAX_ITEMS = 20

RunItem = Callable[[Request], Response]
BatchItem = dict[str, Any]


def run_batch(
    tenant: Directory,
    request: Request,
    run: RunItem,
    before_next_item: Callable[[int], None],
    rng: Random,
) -> bytes:
    """Return the response body; `run` answers one item.

    `before_next_item` is called before all but the first. Raises GraphError for a batch that is
    refused or malformed as a whole.
    """
    if request.method != "POST":
        raise GraphError(405, "Request_BadRequest", "Specified HTTP method is not allowed.")
    if tenant.options.batch_error_status:
        raise GraphError(
            tenant.options.batch_error_status, "BadRequest", "Batching is not available."
        )
    answers: dict[str, Response] = {}
    for done, item in enumerate(_sort_by_dependency(_parse_items(request.body))):
        if done:
            before_next_item(done)
        failed = [one for one in item.get("dependsOn", ()) if answers[one].status >= 400]
        answers[item["id"]] = (
            _build_failed_dependency(failed) if failed else run(_build_request(item))
        )
    texts = [
        _render_answer(name, answer)
        for name, answer in answers.items()
        if not answer.omitted_from_batch
    ]
    rng.shuffle(texts)
    return b'{"responses":[%b]}' % b",".join(texts)


def _build_malformed(message: str) -> GraphError:
    return GraphError(400, "BadRequest", f"Invalid batch payload format. {message}")


def _parse_items(body: bytes) -> list[BatchItem]:
    try:
        items = json.loads(body)["requests"]
    except (ValueError, KeyError, TypeError):
        raise _build_malformed("'requests' is missing.") from None
    if not isinstance(items, list) or not items:
        raise _build_malformed("'requests' has to be a list of requests.")
    if len(items) > MAX_ITEMS:
        raise GraphError(
            400, "BadRequest", f"Number of batch request steps exceeds the maximum of {MAX_ITEMS}."
        )
    for item in items:
        if not isinstance(item, dict) or not _is_item(item):
            raise _build_malformed("Every request needs a text each for id, method and url.")
    names = [item["id"] for item in items]
    if len(set(names)) < len(names):
        raise _build_malformed("Request ids have to be unique.")
    if any(not set(item.get("dependsOn", ())) <= set(names) for item in items):
        raise _build_malformed("'dependsOn' names a request that is not there.")
    return items


def _is_item(item: BatchItem) -> bool:
    texts = all(isinstance(item.get(key), str) and item[key] for key in ("id", "method", "url"))
    depends = item.get("dependsOn", [])
    return texts and isinstance(depends, list) and all(isinstance(one, str) for one in depends)


def _sort_by_dependency(items: list[BatchItem]) -> list[BatchItem]:
    """Return the items, each after those it depends on."""
    ordered: list[BatchItem] = []
    done: set[str] = set()
    while len(ordered) < len(items):
        ready = [i for i in items if i["id"] not in done and done >= set(i.get("dependsOn", ()))]
        if not ready:
            raise _build_malformed("The requests depend on each other.")
        ordered.append(ready[0])
        done.add(ready[0]["id"])
    return ordered


def _build_request(item: BatchItem) -> Request:
    path, _, query = item["url"].partition("?")
    headers = {str(k).lower(): str(v) for k, v in (item.get("headers") or {}).items()}
    path = VERSION + path.removeprefix("/")
    return Request(item["method"].upper(), path, query, headers, item=item["id"])


def _build_failed_dependency(failed: list[str]) -> Response:
    content = {"code": "FailedDependency", "message": f"Depends on failed {', '.join(failed)}."}
    return Response(424, encode({"error": content}), {"content-type": "application/json"})


def _render_answer(name: str, answer: Response) -> bytes:
    head = encode({"id": name, "status": answer.status, "headers": _select_headers(answer)})
    return head[:-1] + b',"body":%b}' % _render_body(answer)


def _render_body(answer: Response) -> bytes:
    """Return JSON unchanged, and anything else as a base64 string."""
    if not answer.body:
        return b"null"
    kind = answer.headers.get("content-type", "application/json")
    return answer.body if "json" in kind else encode(b64encode(answer.body).decode())


_HEADER_CASE = {
    "content-type": "Content-Type",
    "odata-version": "OData-Version",
    "location": "Location",
    "retry-after": "Retry-After",
    "request-id": "request-id",
    "cache-control": "Cache-Control",
    "x-ms-resource-unit": "x-ms-resource-unit",
    "x-ms-throttle-limit-percentage": "x-ms-throttle-limit-percentage",
    "x-ms-throttle-scope": "x-ms-throttle-scope",
    "x-ms-throttle-information": "x-ms-throttle-information",
    "ratelimit-limit": "RateLimit-Limit",
    "ratelimit-remaining": "RateLimit-Remaining",
    "ratelimit-reset": "RateLimit-Reset",
}


def _select_headers(answer: Response) -> dict[str, str]:
    if answer.keeps_header_case:
        return answer.headers
    return {
        _HEADER_CASE[name]: value for name, value in answer.headers.items() if name in _HEADER_CASE
    }
