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

from models.sink import SinkKind, SinkStart
from sandbox.tenant import Nango, Tenant
from tests.acceptance.conftest import Ground
from tests.support.service import (
    CELERY,
    PLAIN,
    RELAY,
    assert_survived,
    create_and_delete,
    until,
    until_exact,
)
from worker.events.sink_settings import settings_of
from worker.ops.cli.status import status
from worker.store.sink_admin import NewSink, add
from worker.tasks.queues import MAINTENANCE, SYNCS

Look = Callable[[str], bool]


@pytest.fixture
def told(ground: Ground) -> Callable[..., str]:
    """What `status` answers to an operator, or to a program."""
    environment = {**ground.service.environment, "COLUMNS": "400"}

    def ask(*arguments: str) -> str:
        return CliRunner().invoke(status, [*arguments], env=environment).output

    return ask


def mirrored(ground: Ground, nango: Nango) -> Tenant:
    """A small customer, mirrored by a service of every process."""
    tenant = Tenant(seed=71, users=120, groups=6, sites=4)
    nango.add_connection("contoso", tenant)
    settings = settings_of(SinkKind.REDIS_STREAM, {"maxlen": 10_000, "stream": "shortage"})
    with ground.database.begin() as connection:
        add(connection, NewSink("s", SinkKind.REDIS_STREAM, settings, start=SinkStart.OLDEST), None)
    ground.service.start_all()
    ground.service.start_relay()
    until_exact(ground.database, tenant, what="the first load")
    return tenant


@contextmanager
def full_database(ground: Ground) -> Iterator[None]:
    """Postgres answers as with a full disk, wherever the users' table is written."""
    with ground.database.begin() as connection:
        connection.execute(
            text("""
            create function public.full() returns trigger language plpgsql as $$
            begin raise exception 'kein Platz' using errcode = '53100'; end $$;
            create trigger full_disk before insert or update or delete on directory.users
              for each row execute function public.full()
            """)
        )
    yield
    with ground.database.begin() as connection:
        connection.execute(text("drop function public.full() cascade"))


@contextmanager
def used_up_memory(ground: Ground) -> Iterator[None]:
    ground.broker("CONFIG", "SET", "maxmemory", "1")
    yield
    ground.broker("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def disk_that_takes_no_dump(ground: Ground) -> Iterator[None]:
    """Valkey cannot write to its directory, and takes nothing in: MISCONF."""
    folder = Path(answer(ground, "CONFIG", "GET", "dir")["dir"])
    ground.broker("CONFIG", "SET", "save", "3600 1")
    folder.chmod(0o500)
    ground.broker("BGSAVE")
    until(lambda: dumped(ground) == "err", what="a failed dump")
    yield
    folder.chmod(0o700)
    ground.broker("BGSAVE")
    until(lambda: dumped(ground) == "ok", what="a dump")
    ground.broker("CONFIG", "SET", "save", "")


def answer(ground: Ground, *command: str) -> dict[str, str]:
    """An answer of Valkey that has names and values."""
    found: Any = ground.broker(*command)
    return {_text(name): _text(value) for name, value in found.items()}


def _text(one: object) -> str:
    return one.decode() if isinstance(one, bytes) else str(one)


def dumped(ground: Ground) -> str:
    """How the last dump ended."""
    return answer(ground, "INFO", "persistence")["rdb_last_bgsave_status"]


@pytest.mark.timeout(480)
def test_a_full_disk_of_postgres_is_named_and_gone_on_from(
    ground: Ground, nango: Nango, told: Callable[..., str]
) -> None:
    tenant = mirrored(ground, nango)
    with full_database(ground):
        create_and_delete(tenant)
        until(lambda: "NO ROOM: no space left on a disk of Postgres" in told(), what="the reason")
        assert "no space left" in json.loads(told("--json"))["no_room"]
        assert "last run failed: no space left" in told()
        until(lambda: '"no room"' in ground.service.log("worker"), what="the line in the log")
    until_exact(ground.database, tenant, what="what had to wait")
    assert_survived(ground.service, ground.database, tenant)


@pytest.mark.timeout(480)
@pytest.mark.parametrize(
    ("shortage", "words"),
    [(used_up_memory, "the memory of Redis is used up"), (disk_that_takes_no_dump, "MISCONF")],
)
def test_a_redis_without_room_is_named_and_gone_on_from(
    ground: Ground,
    nango: Nango,
    told: Callable[..., str],
    shortage: Callable[[Ground], Any],
    words: str,
) -> None:
    tenant = mirrored(ground, nango)
    with shortage(ground):
        create_and_delete(tenant)
        until(lambda: f"REDIS: {words}" in told() or words in told(), what="the reason")
        assert words in json.loads(told("--json"))["redis"]
    until_exact(ground.database, tenant, seconds=90, what="what had to wait")
    with ground.database.begin() as connection:
        connection.execute(text("update events.sinks set retry_at = null"))
    until(lambda: "redis-stream  active        0" in told(), 60, what="the delivery of it all")
    assert_survived(ground.service, ground.database, tenant)


NO_ROOM = ["/bin/sh", "-c", 'exec "$@" > /dev/full 2>&1', "sh"]
"""Runs a command whose every line meets a full disk."""


@pytest.mark.timeout(480)
def test_a_worker_whose_log_cannot_be_written_works_on(ground: Ground, nango: Nango) -> None:
    """Nor does any other process end of it. A worker flushes its output before it forks a child."""
    tenant = Tenant(seed=72, users=60, groups=4, sites=3)
    nango.add_connection("contoso", tenant)
    service = ground.service
    for name, queues in (("worker", ",".join(SYNCS)), ("maintenance", MAINTENANCE)):
        words = ["worker", "-Q", queues, "-c", "1", "-n", f"{name}@test", *PLAIN]
        service.launch(name, [*NO_ROOM, *CELERY, *words])
    scheduler = ["--scheduler", "celery.beat:Scheduler", "--pidfile", "", "--loglevel", "WARNING"]
    service.launch("beat", [*NO_ROOM, *CELERY, "beat", *scheduler])
    service.launch("relay", [*NO_ROOM, *RELAY])
    until_exact(ground.database, tenant, seconds=100, what="the first load")
    create_and_delete(tenant)
    until_exact(ground.database, tenant, seconds=100, what="the changes")
    assert_survived(service, ground.database, tenant)


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
        " host; make room there\n"
    )
