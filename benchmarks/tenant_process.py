"""The simulated tenant in its own process, fast enough to be no bottleneck.

Pages are cached, and `warm` walks a list before a measured run to cache them. The process reads
commands as lines of JSON and answers each with one.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

from benchmarks.processes import ROOT, MeasurementFailed, build_variables, read_processor_seconds
from sandbox.tenant import Nango, Request, Response, Tenant, TenantOptions, serve
from sandbox.tenant.graph.service import VERSION, to_path_template

GRAPH = b"https://graph.microsoft.com/v1.0/"
MAX_CACHED_BYTES = 600_000_000
"""Bytes of cached pages; others are built each time."""
LOCAL_LINKS_HEADER = "x-local-links"
"""With this header next links point here, as other tools do not know that Nango is a proxy."""


class CachingNango(Nango):
    """The simulated Nango with a page cache and a delay before each response."""

    def __init__(self) -> None:
        super().__init__(rate_limit=None, log_size=0)
        self.latency = 0.0
        self.local_prefix = b""
        self.refused_count = 0
        self._pages: dict[tuple[str, str, bool], Response] = {}
        self._cached_bytes = 0

    def handle(self, request: Request) -> Response:
        """Return a cached page, or the simulation's response."""
        kept = self._get_page(request)
        return replace(kept, delay=self.latency) if self.latency else kept

    def _get_page(self, request: Request) -> Response:
        wanted = request.method == "GET" and request.path.startswith("/proxy/")
        if not wanted or self.rate_limit is not None:
            answer = super().handle(request)
            self.refused_count += answer.status == 429
            return answer
        local = LOCAL_LINKS_HEADER in request.headers
        key = (request.headers.get("connection-id", ""), request.target, local)
        with self.lock:
            kept = self._pages.get(key)
            if kept is not None:
                self._count_call(request)
                return kept
        made = super().handle(request)
        if made.status == 200:
            if local:
                made = replace(made, body=made.body.replace(GRAPH, self.local_prefix))
            if self._cached_bytes < MAX_CACHED_BYTES:
                self._pages[key] = made
                self._cached_bytes += len(made.body)
        return made

    def _count_call(self, request: Request) -> None:
        """Count a call like the simulation counts its own."""
        path = request.path.removeprefix("/proxy/").removeprefix(VERSION)
        self.calls.total += 1
        self.calls.kinds["proxy"] += 1
        self.calls.graph[to_path_template(path)] += 1

    def clear_pages(self) -> None:
        """Clear the cache, after a change of a tenant."""
        self._pages.clear()
        self._cached_bytes = 0

    def walk(self, connection: str, target: str, *, local: bool = False) -> list[bytes]:
        """Return the bodies of a whole list, from its first target; all are cached."""
        headers = {
            "authorization": f"Bearer {self.key}",
            "connection-id": connection,
            "provider-config-key": "entra",
        } | ({LOCAL_LINKS_HEADER: "1"} if local else {})
        bodies, following = [], f"/proxy/v1.0/{target}"
        while following:
            path, _, query = following.partition("?")
            answer = self._get_page(Request("GET", path, query, headers))
            if answer.status != 200:
                raise MeasurementFailed(
                    f"the tenant answers {answer.status}: {answer.body[:300]!r}"
                )
            bodies.append(answer.body)
            link = json.loads(answer.body).get("@odata.nextLink")
            following = "/proxy/v1.0/" + link.partition("/v1.0/")[2] if link else ""
        return bodies


class TenantCommands:
    """The commands that the runner can send."""

    def __init__(self, nango: CachingNango) -> None:
        self._nango = nango

    def add(self, connection: str, knobs: Mapping[str, Any], **tenant: Any) -> None:
        self._nango.add_connection(connection, Tenant(options=TenantOptions(**knobs), **tenant))

    def share(self, connections: int, **tenant: Any) -> None:
        """Add many connections of one tenant."""
        shared = Tenant(**tenant)
        for number in range(connections):
            self._nango.add_connection(f"shared-{number:05}", shared)

    def remove(self) -> None:
        """Remove all connections and their cached pages."""
        for one in list(self._nango.connections):
            self._nango.remove_connection(one.connection_id, one.provider_config_key)
        self._nango.clear_pages()
        self.latency(0.0)
        self.limit(None)

    def latency(self, seconds: float) -> None:
        self._nango.latency = seconds

    def limit(self, calls: int | None, window: float = 60.0) -> None:
        """Set Nango's own rate limit, reported and enforced."""
        self._nango.rate_limit, self._nango.rate_window = calls, window
        self._nango.enforce_rate_limit = calls is not None

    def warm(self, connection: str, target: str, *, local: bool = False) -> dict[str, int]:
        bodies = self._nango.walk(connection, target, local=local)
        return {"pages": len(bodies), "bytes": sum(map(len, bodies))}

    def change(self, connection: str, users: int, seed: int) -> dict[str, float]:
        """Change one property of so many users, spread over all; return the time."""
        tenant = self._tenant(connection)
        live = list(tenant.users.iterate_live())
        for index in Random(seed).sample(live, min(users, len(live))):
            tenant.update_user(tenant.users.id_at(index), jobTitle=f"Changed {seed}")
        self._nango.clear_pages()
        return {"at": time.time()}

    def delete_group(self, connection: str) -> None:
        """Delete the first group, which is the big one if there is one."""
        tenant = self._tenant(connection)
        tenant.delete_group(tenant.groups.id_at(0))
        self._nango.clear_pages()

    def count(self, connection: str) -> dict[str, int]:
        """Return the numbers of live objects."""
        tenant = self._tenant(connection)
        with tenant.lock:
            edges = sum(1 for _ in tenant.iterate_live("group_members"))
            counts = {
                name: tenant.store(name).count_live()
                for name in ("users", "groups", "sites", "role_definitions", "role_assignments")
            }
        return counts | {"group_members": edges}

    def calls(self) -> dict[str, Any]:
        """Return the calls since the last time."""
        calls = self._nango.calls
        with self._nango.lock:
            report = {"total": calls.total, "graph": dict(calls.graph), "kinds": dict(calls.kinds)}
            report["refused"] = self._nango.refused_count
            calls.reset()
            self._nango.refused_count = 0
        return report

    def _tenant(self, connection: str) -> Tenant:
        found = self._nango.find(connection)
        if found is None:
            raise MeasurementFailed(f"{connection} is not connected")
        return found.tenant


class TenantProcess:
    """The runner's side of the running process."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, key: str) -> None:
        self.url, self.key, self.pid = url, key, process.pid
        self._process = process
        self._guard = threading.Lock()

    def send(self, what: str, **about: Any) -> Any:
        """Send one command; return its answer. Raises MeasurementFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._guard:
            self._process.stdin.write(json.dumps({"what": what, **about}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or '{"failed": "it has ended"}')
        if "failed" in answer:
            raise MeasurementFailed(f"the simulated tenant, asked to {what}: {answer['failed']}")
        return answer["done"]

    def connect(
        self, connection: str, knobs: Mapping[str, Any] | None = None, **tenant: Any
    ) -> None:
        """Connect a tenant of the given size."""
        self.send("add", connection=connection, knobs=dict(knobs or {}), **tenant)

    def cpu(self) -> float:
        return read_processor_seconds(self.pid)


@contextmanager
def run_tenant_process() -> Iterator[TenantProcess]:
    """Run the process during the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.tenant_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=build_variables(),
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url, key = process.stdout.readline().split()
        yield TenantProcess(process, url, key)
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def main() -> None:
    """Serve until standard input ends."""
    nango = CachingNango()
    with serve(nango) as server:
        nango.local_prefix = f"{server.url}/proxy/v1.0/".encode()
        print(server.url, nango.key, flush=True)
        commands = TenantCommands(nango)
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                done = getattr(commands, asked.pop("what"))(**asked)
                answer = {"done": done}
            except Exception as error:  # noqa: BLE001 - the runner shall hear of it
                answer = {"failed": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
