"""A request and a response as the simulated servers see them, and their error bodies."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

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


def json_response(content: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, encode(content), {"content-type": JSON, **headers}, chunked=False)
