"""The servers of docker-compose.yml with their very arguments, and the service on them."""

import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import yaml
from redis.exceptions import NoPermissionError
from sqlalchemy.engine import make_url

from migrations.walls.roles import ROLES
from sandbox.servers import Home, Servers
from sandbox.servers.binaries import find_postgres_programs, find_valkey_program
from sandbox.tenant import Nango, Server, Tenant
from tests.support.mirror import assert_exact, fetch_scalar
from tests.support.service import Service, wait_until, wait_until_exact
from worker.store.engine import Database

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RUNNING = ("beat", "worker", "backfill", "maintenance", "relay", "web")
ROLE = "composed"
ADMIN = "user test on >test allcommands allkeys allchannels\n"


@dataclass
class Stack:
    """What Compose would start, on this machine."""

    secrets: Path
    port: int
    database: Database
    service: Service

    def redis(self, user: str, password: str) -> Any:
        return redis.Redis(port=self.port, username=user, password=password)

    @property
    def user(self) -> Any:
        """As the service logs in."""
        return redis.Redis.from_url((self.secrets / "redis-url").read_text().strip())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def make_secrets(folder: Path) -> None:
    subprocess.run([ROOT / "deploy" / "make-secrets", folder], check=True)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    make_secrets(folder)
    return folder


@pytest.fixture(scope="module")
def valkey(secrets: Path, home: Path) -> Iterator[int]:
    """A server with the arguments of the file, and one more user, who reads what it refused."""
    port = free_port()
    users = secrets / "valkey-users"
    mine = secrets.parent / "users"
    mine.write_text(users.read_text() + ADMIN)
    words = shlex.split(SERVICES["valkey"]["command"])
    assert words.pop(0) == "valkey-server"
    words = [str(mine) if word == f"/run/secrets/{users.name}" else word for word in words]
    place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(secrets.parent)]
    program = find_valkey_program(Home(home / "18"))
    server = subprocess.Popen([program, *words, *place], stdout=subprocess.DEVNULL)
    with redis.Redis(port=port, username="health", password="none") as client:
        wait_until(lambda: answers(client), 20, "an answer to the health check")
    yield port
    server.terminate()
    server.wait(20)


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture(scope="module")
def database_url(secrets: Path, servers: Servers, home: Path) -> Iterator[str]:
    """The database that the image's script makes, with its role.

    The embedded server has a role of that name already, so this one gets another.
    """
    url = make_url(servers.database_url)
    psql = find_postgres_programs(Home(home / "18")) / "psql"
    script = (ROOT / "deploy" / "postgres-role.sql").read_text().replace("tenant_mirror", ROLE)
    given = SERVICES["postgres"]["environment"]["DATABASE_PASSWORD_FILE"]
    subprocess.run(
        [psql, "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1"],
        input=script,
        text=True,
        env={
            "PATH": "/usr/bin:/bin",
            "PGHOST": str(url.host),
            "PGPORT": str(url.port),
            "PGUSER": str(url.username),
            "PGPASSWORD": str(url.password),
            "PGDATABASE": "postgres",
            "DATABASE_PASSWORD_FILE": str(secrets / Path(given).name),
        },
        check=True,
    )
    own = (secrets / "database-url").read_text().strip().replace("tenant_mirror", ROLE)
    yield own.replace("@postgres:5432", f"@{url.host}:{url.port}")
    with psycopg.connect(servers.database_url, autocommit=True) as admin:
        admin.execute(f"drop database {ROLE} with (force)")
        for role in (ROLE, *(one.replace("tenant_mirror", ROLE) for one in ROLES)):
            admin.execute(f"drop role {role}".encode())


@pytest.fixture
def stack(
    secrets: Path,
    valkey: int,
    database_url: str,
    nango: Nango,
    nango_server: Server,
    tmp_path: Path,
) -> Iterator[Stack]:
    """The service with its settings in files, as Compose gives them."""
    redis_url = (secrets / "redis-url").read_text().replace("@valkey:6379", f"@127.0.0.1:{valkey}")
    files = {"database-url": database_url, "redis-url": redis_url, "nango-secret-key": nango.key}
    environment = {"NANGO_HOST": nango_server.url, "TMPDIR": str(tmp_path)}
    for name, value in files.items():
        file = tmp_path / name
        file.write_text(value)
        variable = f"{name.upper().replace('-', '_')}_FILE"
        assert SERVICES["worker"]["environment"][variable] == f"/run/secrets/{name}"
        environment[variable] = str(file)
    one = {"TENANT_MIRROR_CONCURRENCY": "1", "TENANT_MIRROR_BACKFILL_CONCURRENCY": "1"}
    web = SERVICES["web"]["environment"]
    token = secrets / Path(web["TENANT_MIRROR_WEB_TOKEN_FILE"]).name
    one |= {name: value for name, value in web.items() if value and "WEB" in name}
    one |= {"TENANT_MIRROR_WEB_TOKEN_FILE": str(token), "TENANT_MIRROR_WEB_PORT": str(free_port())}
    service = Service({**environment, **one}, tmp_path)
    service.environment["PATH"] = f"{Path(sys.executable).parent}:{service.environment['PATH']}"
    database = Database(database_url)
    yield Stack(tmp_path, valkey, database, service)
    database.close()
    service.close()


def run(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        env=stack.service.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def health(stack: Stack, name: str, *more: str) -> int:
    words = SERVICES[name]["healthcheck"]["test"]
    assert words[0] == "CMD"
    return run(stack, *words[1:], *more).returncode


def start(stack: Stack, name: str) -> None:
    """A process with the command of the file; Compose fills in what the shell does here."""
    stack.service.launch(name, ["sh", "-c", f"exec {SERVICES[name]['command']}"])


def test_the_service_works_with_no_more_rights_than_compose_gives_it(
    stack: Stack, nango: Nango
) -> None:
    with stack.redis("test", "test") as admin:
        admin.acl_log_reset()
    nango.add_connection("contoso", tenant := Tenant(seed=3, users=20, groups=3, sites=2))
    done = run(stack, *shlex.split(SERVICES["migrate"]["command"]))
    assert done.returncode == 0, done.stderr
    done = run(stack, "tenant-mirror", "sinks", "add", "feed", "--kind", "redis-stream")
    assert done.returncode == 0, done.stderr
    assert [health(stack, name) for name in RUNNING] == [1] * len(RUNNING), "nothing runs yet"
    for name in RUNNING:
        start(stack, name)
    wait_until_exact(stack.database, tenant, seconds=120)
    tenant.mutate(20)
    wait_until_exact(stack.database, tenant, seconds=120)
    assert_exact(stack.database, tenant)
    delivered = "select count(*) from events.positions p join sync.leases l using (connection_id)"
    wait_until(
        lambda: fetch_scalar(stack.database, delivered + " where p.seq = l.event_seq") == 1,
        60,
        "all",
    )
    wait_until(
        lambda: [health(stack, name) for name in RUNNING] == [0] * len(RUNNING), 60, "health"
    )

    port = stack.service.environment["TENANT_MIRROR_WEB_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/fleet", timeout=20) as reply:
        assert json.loads(reply.read())["status"] == "well"

    role = "select rolsuper or rolcreatedb or rolcreaterole or rolbypassrls from pg_roles"
    assert fetch_scalar(stack.database, f"{role} where rolname = current_user") is False
    owner = "select pg_get_userbyid(datdba) from pg_database where datname = current_database()"
    assert (
        fetch_scalar(stack.database, owner)
        == fetch_scalar(stack.database, "select current_user")
        == ROLE
    )
    assert stack.service.find_ended() == {}
    assert stack.service.find_bugs() == []
    with stack.redis("test", "test") as admin:
        refused = [(one["object"], one["context"]) for one in admin.acl_log()]
        assert refused == [], "the service asked for no more"
        keys = admin.keys("*")
        assert keys
        assert all(key.startswith(b"tenant-mirror:") for key in keys), keys
        assert admin.xlen("tenant-mirror:events") > 0

    # Frozen processes are no longer healthy, and nobody can command them through the broker.
    stack.service.send_signal("worker", signal.SIGSTOP)
    time.sleep(2)
    assert health(stack, "worker", "--within", "1") == 1
    stack.service.send_signal("worker", signal.SIGCONT)
    wait_until(lambda: health(stack, "worker") == 0, 30, "the worker")


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("ACL", "LIST"),
        ("SHUTDOWN",),
        ("GET", "other"),
        ("XADD", "other", "*", "a", "b"),
        ("PUBLISH", "tenant-mirror:x", "y"),
        ("CLIENT", "KILL", "ID", "1"),
        ("SCRIPT", "FLUSH"),
        ("EVAL", "return redis.call('GET', 'other')", "0"),
    ],
)
def test_the_services_user_can_do_nothing_else(stack: Stack, command: tuple[str, ...]) -> None:
    with stack.user as client, pytest.raises(redis.ResponseError, match=r"NOPERM|permissions|ACL"):
        client.execute_command(*command)


def test_who_has_no_password_can_only_ask_whether_the_broker_lives(stack: Stack) -> None:
    with (
        redis.Redis(port=stack.port) as anonymous,
        pytest.raises(redis.AuthenticationError),
    ):
        anonymous.ping()
    with stack.redis("health", "any") as checking:
        assert checking.ping()
        with pytest.raises(NoPermissionError):
            checking.get("tenant-mirror:manual")
    with stack.redis("tenant-mirror", "none") as guessing, pytest.raises(redis.AuthenticationError):
        guessing.ping()


def test_secrets_are_made_once_and_fit_each_other(secrets: Path, tmp_path: Path) -> None:
    before = {one.name: one.read_text() for one in secrets.iterdir()}
    make_secrets(secrets)
    assert {one.name: one.read_text() for one in secrets.iterdir()} == before
    named = {Path(it["file"]).name for it in COMPOSE["secrets"].values()}
    assert named - {"nango-secret-key}"} == before.keys()
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert all(one.stat().st_mode & 0o777 == 0o444 for one in secrets.iterdir())
    other = tmp_path / "secrets"
    make_secrets(other)
    assert not {one.read_text() for one in other.iterdir()} & set(before.values())
    shutil.rmtree(other)
