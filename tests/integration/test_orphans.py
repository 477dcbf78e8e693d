"""Leases of dead processes do not wait to lapse, and nobody takes a living one for dead."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.support.leases import take_lease
from tests.support.mirror import Mirror, fetch_scalar
from tests.support.pid_namespaces import wrap_in_pid_namespace
from worker.core.errors import LeaseLost
from worker.core.process.identity import get_process_table
from worker.store import lease
from worker.store.orphaned_leases import free_orphaned_leases


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def held_by(mirror: Mirror, holder: str) -> lease.Lease:
    taken = take_lease(mirror.database, 1, seconds=600)
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.leases set holder = :holder"), {"holder": holder})
        db.execute(text("update sync.connections set due_at = now() + interval '1 hour'"))
    return taken


def freed(mirror: Mirror) -> int:
    with mirror.database.open_transaction() as db:
        return free_orphaned_leases(db)


def name_of(process: subprocess.Popen[bytes]) -> str:
    return str(get_process_table().identify(process.pid))


@pytest.mark.parametrize("buried", [True, False], ids=["buried", "zombie"])
def test_a_dead_processs_lease_is_free_and_its_connection_due(
    mirror: Mirror, process: subprocess.Popen[bytes], buried: bool
) -> None:
    zombie = held_by(mirror, name_of(process))
    process.kill()
    if buried:
        process.wait()
    else:
        while freed(mirror) == 0:
            pass
    assert freed(mirror) == (1 if buried else 0)
    assert fetch_scalar(mirror.database, "select due_at <= now() from sync.connections")
    take_lease(mirror.database, 1, seconds=5)
    with pytest.raises(LeaseLost), lease.open_write_transaction(mirror.database, zombie):
        pass


def test_a_lease_of_a_process_whose_pid_was_given_again_is_free(
    mirror: Mirror, process: subprocess.Popen[bytes]
) -> None:
    host, pid, _, place = name_of(process).rsplit(":", 3)
    held_by(mirror, f"{host}:{pid}:17:{place}")
    assert freed(mirror) == 1


def test_a_living_processs_lease_and_those_of_other_places_stay(
    mirror: Mirror, process: subprocess.Popen[bytes]
) -> None:
    held_by(mirror, name_of(process))
    assert freed(mirror) == 0
    host, pid, started, place = name_of(process).rsplit(":", 3)
    process.kill()
    process.wait()
    for holder in (
        f"{host}:{pid}:{started}:{place[::-1]}",
        f"{host}:{pid}:{started}:-",
        f"{host}:{pid}:{started}:",
        f"{host}:{pid}:{started}{place}",
        f"{socket.gethostname()}:{process.pid}",
        "me",
    ):
        with mirror.database.open_transaction() as db:
            db.execute(text("update sync.leases set holder = :h"), {"h": holder})
        assert freed(mirror) == 0, holder


FREE = """
import sys
from worker.store.engine import Database
from worker.store.orphaned_leases import free_orphaned_leases
with Database(sys.argv[1]).open_transaction() as connection:
    print(free_orphaned_leases(connection))
"""


@pytest.mark.parametrize("inside", [True, False], ids=["another namespace", "the same one"])
def test_only_a_process_of_the_same_pid_namespace_frees_a_dead_ones_lease(
    mirror: Mirror, database_url: str, process: subprocess.Popen[bytes], inside: bool
) -> None:
    """The host name is the same, and the pid is nobody's there, as in a second container."""
    held_by(mirror, name_of(process))
    command = [sys.executable, "-c", FREE, database_url]
    if inside:
        command = wrap_in_pid_namespace(command)
    counts = []
    for dead in (False, True):
        if dead:
            process.kill()
            process.wait()
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        counts.append(int(done.stdout))
    assert counts == ([0, 0] if inside else [0, 1])
