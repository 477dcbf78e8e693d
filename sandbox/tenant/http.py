"""A request and a response as the simulated servers see them, and their error bodies."""

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
    """One HTTP request; `path` and `query` are as they came, nothing decoded."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""
    item: str | None = None
    """The id within its `$batch`, for an item of one."""
    connection_id: str | None = None
    """The connection that a Graph request goes through."""

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(slots=True)
class Response:
    """A reply. `delay` holds it back; `chunked` decides how the body is framed."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    chunked: bool = True
    cut_after: int | None = None
    """So many bytes of the body are sent, then the connection is closed."""
    reset: bool = False
    """The connection is reset: after the cut, or without one before a byte was sent."""
    trickle_delay: float = 0.0
    """Seconds before each of the pieces in which the body is sent."""
    omitted_from_batch: bool = False
    """Of an item of a batch: it is missing from the answers."""
    keeps_header_case: bool = False
    """Of an item of a batch: its headers are shown as they are spelt here."""


def json_response(content: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, encode(content), {"content-type": JSON, **headers}, chunked=False)


def build_nango_error(error: NangoError) -> Response:
    content: dict[str, object] = {"code": error.code}
    if error.message:
        content["message"] = error.message
    return json_response({"error": content | error.extra}, error.status)
