"""Leases of dead processes of this host do not wait to lapse."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.conftest import Mirror
from tests.support.leases import take
from tests.support.mirror import scalar
from worker.core.errors import Fenced
from worker.store import lease
from worker.store.orphans import free_orphans


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def held_by(mirror: Mirror, holder: str) -> lease.Lease:
    taken = take(mirror.database, 1, seconds=600)
    with mirror.database.begin() as connection:
        connection.execute(text("update sync.leases set holder = :holder"), {"holder": holder})
        connection.execute(text("update sync.connections set due_at = now() + interval '1 hour'"))
    return taken


def freed(mirror: Mirror) -> int:
    with mirror.database.begin() as connection:
        return free_orphans(connection)


@pytest.mark.parametrize("buried", [True, False], ids=["buried", "zombie"])
def test_a_dead_processs_lease_is_free_and_its_connection_due(
    mirror: Mirror, process: subprocess.Popen[bytes], buried: bool
) -> None:
    zombie = held_by(mirror, f"{socket.gethostname()}:{process.pid}")
    process.kill()
    if buried:
        process.wait()
    else:
        while freed(mirror) == 0:
            pass
    assert freed(mirror) == (1 if buried else 0)
    assert scalar(mirror.database, "select due_at <= now() from sync.connections")
    take(mirror.database, 1, seconds=5)
    with pytest.raises(Fenced), lease.writing(mirror.database, zombie):
        pass


def test_a_living_processs_lease_and_those_of_other_hosts_stay(
    mirror: Mirror, process: subprocess.Popen[bytes]
) -> None:
    held_by(mirror, f"{socket.gethostname()}:{process.pid}")
    assert freed(mirror) == 0
    process.kill()
    process.wait()
    for holder in (f"another-host:{process.pid}", f"{socket.gethostname()}x:{process.pid}", "me"):
        with mirror.database.begin() as connection:
            connection.execute(text("update sync.leases set holder = :h"), {"h": holder})
        assert freed(mirror) == 0
