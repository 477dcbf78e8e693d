"""The page as it is served: a process, with a fleet that has planted faults behind it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from sqlalchemy import text
from sqlalchemy.engine import make_url

from models.api_token import Scope
from sandbox.servers import Servers
from sandbox.tenant import Nango, serve
from tests.support.databases import DatabaseFactory
from tests.support.fault_proxy import FaultProxy
from tests.support.fleet import revive_service
from tests.support.planted_faults import PlantedFault, fill_faulty_fleet
from tests.support.serving import Serving
from tests.support.web import make_token
from worker.core.settings import load_settings
from worker.operations.execute import execute
from worker.ops.local.sign_in_link import make_sign_in_link
from worker.store.engine import Database
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime

_REPORT_SECONDS = 4.0
_WAITING = text("select id from sync.operations where finished_at is null order by id")


class RunningPage:
    """A server that can be stopped, whose way to the database can be cut."""

    def __init__(
        self,
        runtime: Runtime,
        nango: Nango,
        proxy: FaultProxy,
        logs: Path,
        variables: dict[str, str],
    ) -> None:
        self.runtime = runtime
        self.nango = nango
        self._proxy = proxy
        self._logs = logs
        self._variables = variables
        self._serving: Serving | None = None
        self._starts = 0
        self.url = ""
        self.faults: list[PlantedFault] = []

    @property
    def database(self) -> Database:
        return self.runtime.database

    def start(self) -> None:
        """Start the server, at the port that it had before."""
        self._starts += 1
        port = self.url.rpartition(":")[2] or "0"
        log = self._logs / f"web-{self._starts}.log"
        self._serving = Serving(log, ["web", "--port", port], self._variables)
        self.url = self._serving.url

    def stop(self) -> None:
        if self._serving is not None:
            self._serving.process.send_signal(signal.SIGTERM)
            self._serving.process.wait(20)
            self._serving = None

    def cut_database(self) -> None:
        """Let the server find no database; those of the test stay."""
        self._proxy.refuse()
        self._proxy.drop()

    def restore_database(self) -> None:
        self._proxy.heal()

    def revive(self) -> None:
        """Let the dispatcher and the workers report once."""
        revive_service(self.database)

    @contextmanager
    def keep_alive(self) -> Iterator[None]:
        """Let them report every few seconds, as they do."""
        ended = Event()

        def report() -> None:
            while not ended.wait(_REPORT_SECONDS):
                self.revive()

        thread = Thread(target=report)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def run_operations(self) -> None:
        """Carry out what was asked for, as a worker would."""
        with self.database.open_transaction() as db:
            waiting = db.execute(_WAITING).scalars().all()
        assert waiting, "nothing was asked for"
        for one in waiting:
            assert execute(self.database, one)

    def change(self, statement: str, **values: object) -> None:
        """Change the fleet behind the page's back."""
        with self.database.open_transaction() as db:
            db.execute(text(statement), values)

    def make_token(self, *scopes: Scope, name: str | None = None) -> str:
        return make_token(self.database, scopes, name=name)

    def make_link(self) -> str:
        """The link that ``make run`` prints, without the server."""
        return make_sign_in_link(self.database, self.runtime.settings, "")


@contextmanager
def run_page(
    cluster: DatabaseFactory, servers: Servers, logs: Path, number: int
) -> Iterator[RunningPage]:
    """Serve the page for this many connections, some with faults."""
    url = cluster.create_migrated()
    address = make_url(url)
    with (
        serve(Nango(rate_limit=None)) as server,
        FaultProxy(address.host or "127.0.0.1", address.port or 5432) as proxy,
    ):
        settings = load_settings(
            database_url=url,
            redis_url=servers.redis_url,
            nango_host=server.url,
            nango_secret_key=server.nango.key,
            retry_seconds=0.2,
        )
        ours = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
        proxied = address.set(host="127.0.0.1", port=proxy.port)
        variables = {
            **ours,
            "DATABASE_URL": proxied.render_as_string(hide_password=False),
            "REDIS_URL": servers.redis_url,
            "NANGO_HOST": server.url,
            "NANGO_SECRET_KEY": server.nango.key,
        }
        runtime = open_runtime(settings)
        page = RunningPage(runtime, server.nango, proxy, logs, variables)
        try:
            page.faults = fill_faulty_fleet(runtime, server.nango, number)
            page.start()
            with page.keep_alive():
                yield page
        finally:
            page.stop()
            close_runtime(runtime)
    cluster.drop(url)
