"""Calls the web application in this process, without a socket, and makes tokens for it."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote, urlencode

import anyio
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Message

from models.api_token import Scope
from worker.core.settings import Settings
from worker.overview.metrics.collector import MetricsCollector
from worker.page.routes import build_site
from worker.store.engine import Database
from worker.store.service.tokens import TokenDigest, create_token
from worker.web.context import POOL_SIZE, WebContext, build_context
from worker.web.routes import ENDPOINTS
from worker.web.token import generate_token
from worker.web.verify import UNKNOWN_SECONDS

HOST = "127.0.0.1"
REMOTE = "203.0.113.7"
"""An address that is not this host."""


@dataclass(frozen=True)
class WebReply:
    """What the application answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class WebClient:
    """Sends requests to an application as uvicorn would."""

    app: ASGIApp
    token: str | None = None
    peer: str = REMOTE
    replies: list[WebReply] = field(default_factory=list)

    def get(self, path: str, **options: Any) -> WebReply:
        return self.request("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> WebReply:
        headers = dict(options.pop("headers", {}))
        raw = b""
        if body is not None:
            raw = json.dumps(body).encode()
            headers.setdefault("content-type", "application/json")
        return self.request("POST", path, body=raw, headers=headers, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: object = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        body: bytes = b"",
        peer: str | None = None,
        host: str = HOST,
    ) -> WebReply:
        sent = {"host": host, **(headers or {})}
        if known := token or self.token:
            sent.setdefault("authorization", f"Bearer {known}")
        raw_query = query if isinstance(query, str) else urlencode(cast(Any, query or {}), True)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": raw_query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in sent.items()],
            "client": (peer or self.peer, 40_000),
            "server": (HOST, 8420),
        }
        reply = anyio.run(self._call, scope, body)
        self.replies.append(reply)
        return reply

    async def _call(self, scope: dict[str, Any], body: bytes) -> WebReply:
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start = sent[0]
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in start["headers"]}
        whole = b"".join(one.get("body", b"") for one in sent[1:])
        return WebReply(start["status"], headers, whole)


@dataclass
class WebApplication:
    """The application with its context, on a database."""

    settings: Settings
    database: Database
    context: WebContext
    exporter: MetricsCollector
    client: WebClient

    def close(self) -> None:
        self.context.close()
        self.exporter.close()
        self.database.close()

    def make_token(
        self, *scopes: Scope, name: str | None = None, lifetime: timedelta | None = None
    ) -> str:
        return make_token(self.database, scopes, name=name, lifetime=lifetime)


def open_application(settings: Settings, bound_host: str = HOST) -> WebApplication:
    assert settings.database_url is not None
    database = Database(settings.database_url.get_secret_value(), pool_size=POOL_SIZE)
    exporter = MetricsCollector(database, settings)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    context = build_context(settings, database, registry, ENDPOINTS, bound_host)
    return WebApplication(settings, database, context, exporter, WebClient(build_site(context)))


def make_token(
    database: Database,
    scopes: Iterable[Scope],
    *,
    name: str | None = None,
    lifetime: timedelta | None = None,
) -> str:
    """The text of a token that is stored, and that a server which runs already knows."""
    made = generate_token()
    stored = TokenDigest(made.id, name or f"test-{made.id}", made.digest, frozenset(scopes))
    with database.open_transaction() as db:
        create_token(db, stored, created_by="test", lifetime=lifetime)
    time.sleep(UNKNOWN_SECONDS)
    return made.text
