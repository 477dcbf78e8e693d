"""A small client of the simulation, for experiments and tests; not a model for consumers."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from sandbox.tenant.graph.call import GRAPH_HOST
from sandbox.tenant.server import Server

PageBody = dict[str, Any]


class WalkResult(NamedTuple):
    """A finished walk: every object in the order received, and the delta link, if any."""

    objects: list[dict[str, Any]]
    pages: int
    delta_link: str | None


class Client:
    """Calls Graph through the served Nango as one connection. A context manager."""

    def __init__(
        self, server: Server, connection_id: str, provider_config_key: str = "entra"
    ) -> None:
        self.http = httpx.Client(
            base_url=server.url,
            headers={
                "Authorization": f"Bearer {server.nango.key}",
                "Connection-Id": connection_id,
                "Provider-Config-Key": provider_config_key,
                "Retries": "0",
            },
            timeout=60,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def get(self, target: str, **headers: str) -> httpx.Response:
        """GET a link from Graph, or a target such as `users?$top=5`, byte for byte."""
        target = target.removeprefix(GRAPH_HOST).removeprefix("/v1.0").removeprefix("/")
        return self.http.get(f"/proxy/v1.0/{target}", headers=headers)

    def iterate_pages(self, target: str) -> Iterator[PageBody]:
        """Yield the pages from `target` on. Raises httpx.HTTPStatusError for a refusal."""
        following: str | None = target
        while following:
            page: PageBody = self.get(following).raise_for_status().json()
            yield page
            following = page.get("@odata.nextLink")

    def walk(self, target: str) -> WalkResult:
        """Read all pages from `target` on."""
        objects: list[dict[str, Any]] = []
        pages, delta_link = 0, None
        for page in self.iterate_pages(target):
            objects += page["value"]
            pages += 1
            delta_link = page.get("@odata.deltaLink")
        return WalkResult(objects, pages, delta_link)

    def send_batch(self, *requests: str | dict[str, Any]) -> list[dict[str, Any]]:
        """Send one `$batch`, return its responses. A URL is a GET; ids are "1", "2", ..."""
        items = [
            {"id": str(n), "method": "GET"} | ({"url": one} if isinstance(one, str) else one)
            for n, one in enumerate(requests, 1)
        ]
        response = self.http.post("/proxy/v1.0/$batch", json={"requests": items})
        answers: list[dict[str, Any]] = response.raise_for_status().json()["responses"]
        return answers
