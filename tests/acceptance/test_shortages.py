"""Full disks and used up memory under a running service: named, survived, gone on from."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from models.queues import MAINTENANCE, SLICE_QUEUES
from models.sink import SinkKind, SinkStart
from sandbox.tenant import Nango, Tenant
from tests.support.isolated_environment import IsolatedEnvironment
from tests.support.service import (
    CELERY,
    RELAY,
    WORKER_OPTIONS,
    assert_survived,
    make_every_change,
    wait_until,
    wait_until_exact,
)
from worker.delivery.settings import build_stored_settings
from worker.delivery.store.admin import NewSink, add_sink
from worker.ops.cli.status import status

Look = Callable[[str], bool]


@pytest.fixture
def told(environment: IsolatedEnvironment) -> Callable[..., str]:
    """What `status` answers to an operator, or to a program."""

    def ask(*arguments: str) -> str:
        return CliRunner().invoke(status, [*arguments], env=environment.service.environment).output

    return ask


def mirrored(ground: IsolatedEnvironment, nango: Nango) -> Tenant:
    """A small customer, mirrored by a service of every process."""
    tenant = Tenant(seed=71, users=120, groups=6, sites=4)
    nango.add_connection("contoso", tenant)
    settings = build_stored_settings(
        SinkKind.REDIS_STREAM, {"maxlen": 10_000, "stream": "shortage"}
    )
    with ground.database.open_transaction() as db:
        add_sink(db, NewSink("s", SinkKind.REDIS_STREAM, settings, start=SinkStart.OLDEST), None)
    ground.service.start_all()
    ground.service.start_relay()
    wait_until_exact(ground.database, tenant, what="the first load")
    return tenant


@contextmanager
def full_database(ground: IsolatedEnvironment) -> Iterator[None]:
    """Postgres answers as with a full disk, wherever the users' table is written."""
    with ground.database.open_transaction() as connection:
        connection.execute(
            text("""
            create function public.full() returns trigger language plpgsql as $$
            begin raise exception 'kein Platz' using errcode = '53100'; end $$;
            create trigger full_disk before insert or update or delete on directory.users
              for each row execute function public.full()
            """)
        )
    yield
    with ground.database.open_transaction() as db:
        db.execute(text("drop function public.full() cascade"))


@contextmanager
def used_up_memory(ground: IsolatedEnvironment) -> Iterator[None]:
    ground.run_redis("CONFIG", "SET", "maxmemory", "1")
    yield
    ground.run_redis("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def disk_that_takes_no_dump(ground: IsolatedEnvironment) -> Iterator[None]:
    """Valkey cannot write to its directory, and takes nothing in: MISCONF."""
    folder = Path(answer(ground, "CONFIG", "GET", "dir")["dir"])
    ground.run_redis("CONFIG", "SET", "save", "3600 1")
    folder.chmod(0o500)
    ground.run_redis("BGSAVE")
    wait_until(lambda: dumped(ground) == "err", what="a failed dump")
    yield
    folder.chmod(0o700)
    ground.run_redis("BGSAVE")
    wait_until(lambda: dumped(ground) == "ok", what="a dump")
    ground.run_redis("CONFIG", "SET", "save", "")


def answer(ground: IsolatedEnvironment, *command: str) -> dict[str, str]:
    """An answer of Valkey that has names and values."""
    found: Any = ground.run_redis(*command)
    return {_text(name): _text(value) for name, value in found.items()}


def _text(one: object) -> str:
    return one.decode() if isinstance(one, bytes) else str(one)


def dumped(ground: IsolatedEnvironment) -> str:
    """How the last dump ended."""
    return answer(ground, "INFO", "persistence")["rdb_last_bgsave_status"]


@pytest.mark.timeout(480)
def test_a_full_disk_of_postgres_is_named_and_gone_on_from(
    environment: IsolatedEnvironment, nango: Nango, told: Callable[..., str]
) -> None:
    tenant = mirrored(environment, nango)
    with full_database(environment):
        make_every_change(tenant)
        wait_until(
            lambda: "is full: no space left on a disk of Postgres" in told(), what="the reason"
        )
        assert "no space left" in json.loads(told("--json"))["no_room"]
        (row,) = json.loads(told("--json"))["connections"]
        assert "no space left" in row["last_outcome"]["error"]
        assert row["held_up_by"] == "server_unusable"
        wait_until(
            lambda: '"storage full"' in environment.service.read_log("worker"),
            what="the line in the log",
        )
    wait_until_exact(environment.database, tenant, what="what had to wait")
    assert_survived(environment.service, environment.database, tenant)


@pytest.mark.timeout(480)
@pytest.mark.parametrize(
    ("shortage", "words"),
    [(used_up_memory, "the memory of Redis is used up"), (disk_that_takes_no_dump, "MISCONF")],
)
def test_a_redis_without_room_is_named_and_gone_on_from(
    environment: IsolatedEnvironment,
    nango: Nango,
    told: Callable[..., str],
    shortage: Callable[[IsolatedEnvironment], Any],
    words: str,
) -> None:
    tenant = mirrored(environment, nango)
    with shortage(environment):
        make_every_change(tenant)
        wait_until(lambda: words in told(), what="the reason")
        assert words in json.loads(told("--json"))["redis"]
    wait_until_exact(environment.database, tenant, seconds=90, what="what had to wait")
    with environment.database.open_transaction() as db:
        db.execute(text("update events.sinks set retry_at = null"))
    wait_until(lambda: "redis-stream  active        0" in told(), 60, what="the delivery of it all")
    assert_survived(environment.service, environment.database, tenant)


NO_ROOM = ["/bin/sh", "-c", 'exec "$@" > /dev/full 2>&1', "sh"]
"""Runs a command whose every line meets a full disk."""


@pytest.mark.timeout(480)
def test_a_worker_whose_log_cannot_be_written_works_on(
    environment: IsolatedEnvironment, nango: Nango
) -> None:
    """Nor does any other process end of it. A worker flushes its output before it forks a child."""
    tenant = Tenant(seed=72, users=60, groups=4, sites=3)
    nango.add_connection("contoso", tenant)
    service = environment.service
    for name, queues in (("worker", ",".join(SLICE_QUEUES)), ("maintenance", MAINTENANCE)):
        words = ["worker", "-Q", queues, "-c", "1", "-n", f"{name}@test", *WORKER_OPTIONS]
        service.launch(name, [*NO_ROOM, *CELERY, *words])
    scheduler = ["--scheduler", "celery.beat:Scheduler", "--pidfile", "", "--loglevel", "WARNING"]
    service.launch("beat", [*NO_ROOM, *CELERY, "beat", *scheduler])
    service.launch("relay", [*NO_ROOM, *RELAY])
    wait_until_exact(environment.database, tenant, seconds=100, what="the first load")
    make_every_change(tenant)
    wait_until_exact(environment.database, tenant, seconds=100, what="the changes")
    assert_survived(service, environment.database, tenant)


@pytest.mark.parametrize("words", [["settings"], ["settings", "--json"], ["asyncapi"], ["--help"]])
def test_a_command_whose_output_has_no_room_says_so(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "worker.ops.cli", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "tenant-mirror: standard output cannot be written: no space left, its disk is full on this"
        " host; free some space there\n"
    )
