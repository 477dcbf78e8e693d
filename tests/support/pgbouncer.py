"""A real PgBouncer in front of the tests' Postgres."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from sandbox.servers import Child, Home, Supervisor

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@dataclass(frozen=True)
class Pooler:
    """A running PgBouncer: it leads to every database of one server, as one user."""

    port: int

    def build_url(self, database_url: str) -> str:
        """The address of a database by way of the pooler."""
        url = make_url(database_url).set(host="127.0.0.1", port=self.port)
        return url.render_as_string(hide_password=False)


@contextmanager
def run_pooler(database_url: str, folder: Path, **settings: object) -> Iterator[Pooler]:
    """Run PgBouncer before the server of ``database_url``, as it comes except for ``settings``.

    Skips the test where the machine has none.
    """
    if PROGRAM is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer (.ci/run does)")
    home = Home(folder)
    with home.hold_lock(), Supervisor() as supervisor:
        pooler = Pooler(home.reserve_port("pgbouncer"))
        file = home.write_private(
            "pgbouncer.ini", _render_ini(database_url, pooler, settings), home.server_user
        )
        supervisor.start(
            Child(
                name="pgbouncer",
                argv=[PROGRAM, str(file)],
                user=home.server_user,
                is_ready=lambda: _is_answering(pooler.build_url(database_url)),
                log=home.get_log_path("pgbouncer"),
            )
        )
        yield pooler


def _render_ini(database_url: str, pooler: Pooler, settings: dict[str, object]) -> str:
    server = make_url(database_url)
    ours = {
        "listen_addr": "127.0.0.1",
        "listen_port": pooler.port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "default_pool_size": 2,
        **settings,
    }
    lines = "\n".join(f"{name} = {value}" for name, value in ours.items())
    return (
        "[databases]\n"
        f"* = host={server.host} port={server.port} user={server.username}"
        f" password={server.password}\n"
        f"[pgbouncer]\n{lines}\n"
    )


def _is_answering(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2) as session:
            return session.execute("select 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False
