"""HTTP requests and responses of the simulated servers, and their error bodies."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from sandbox.tenant.errors import NangoError

JSON = "application/json; charset=utf-8"
GRAPH_JSON = (
    "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;"
    "charset=utf-8"
)

encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Request:
    """One HTTP request; `path` and `query` are not decoded."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""
    item: str | None = None
    """The item's id within its `$batch`; None for other requests."""
    connection_id: str | None = None
    """The connection that a Graph request goes through."""

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(slots=True)
class Response:
    """A response. `delay` is in seconds; `chunked` selects the framing of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    chunked: bool = True
    cut_after: int | None = None
    """Bytes of the body to send before the connection is closed."""
    reset: bool = False
    """Whether the connection is reset: after `cut_after` bytes, else before the first byte."""
    trickle_delay: float = 0.0
    """Seconds before each piece of the body."""
    omitted_from_batch: bool = False
    """Whether this batch item is missing from the batch's response."""
    keeps_header_case: bool = False
    """Whether this batch item's headers keep their case."""


def json_response(content: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, encode(content), {"content-type": JSON, **headers}, chunked=False)


def build_nango_error(error: NangoError) -> Response:
    content: dict[str, object] = {"code": error.code}
    if error.message:
        content["message"] = error.message
    return json_response({"error": content | error.extra}, error.status)
