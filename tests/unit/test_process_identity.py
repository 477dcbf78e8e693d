"""A process is named so that no other one is taken for it, and only a certain death is one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pid_namespaces import wrap_in_pid_namespace
from worker.core.process.identity import (
    ProcessIdentity,
    ProcessTable,
    get_process_table,
    identify_this_process,
    parse_identity,
    shorten_identity,
)

SAY_WHO = (
    "from worker.core.process.identity import identify_this_process as me; print(me()); input()"
)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def identity_of(child: subprocess.Popen[bytes]) -> ProcessIdentity:
    return get_process_table().identify(child.pid)


@given(
    host=st.text(max_size=20),
    pid=st.integers(min_value=1, max_value=2**22),
    started=st.from_regex(r"[0-9]{1,9}|-|Sun Nov 29 12\.04\.59 2026", fullmatch=True),
    place=st.from_regex(r"[0-9a-f]{16}|-", fullmatch=True),
)
def test_an_identity_is_read_back_as_it_was_written(
    host: str, pid: int, started: str, place: str
) -> None:
    identity = ProcessIdentity(host, pid, started, place)
    assert parse_identity(str(identity)) == identity
    assert shorten_identity(str(identity)) == f"{host}:{pid}"


@pytest.mark.parametrize("written", ["", "me", "web-1:77", "web-1:x:12:ab", "a:b:c", ":::", "::::"])
def test_other_names_are_no_identity_and_shown_as_they_are(written: str) -> None:
    assert parse_identity(written) is None
    assert shorten_identity(written) == written


def test_a_process_is_the_same_from_inside_and_outside() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SAY_WHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline().decode().strip() == str(
            get_process_table().identify(other.pid)
        )
        other.kill()


def test_a_process_lives_until_it_is_dead(child: subprocess.Popen[bytes]) -> None:
    identity = identity_of(child)
    assert not get_process_table().is_dead(identity)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert get_process_table().is_dead(identity), "its parent has not taken note of its end"
    child.wait()
    assert get_process_table().is_dead(identity)


def test_a_pid_that_was_given_again_is_another_process(child: subprocess.Popen[bytes]) -> None:
    former = replace(identity_of(child), start_time="17")
    assert get_process_table().is_dead(former)


def test_where_a_start_is_not_known_an_equal_pid_counts_as_living(
    child: subprocess.Popen[bytes],
) -> None:
    identity = replace(identity_of(child), start_time="-")
    assert not get_process_table().is_dead(identity)
    child.kill()
    child.wait()
    assert get_process_table().is_dead(identity)


@pytest.mark.parametrize("place", ["-", "0123456789abcdef", ""])
def test_a_process_of_another_place_is_never_called_dead(
    child: subprocess.Popen[bytes], place: str
) -> None:
    identity = replace(identity_of(child), namespace=place)
    child.kill()
    child.wait()
    assert not get_process_table().is_dead(identity)


def test_the_name_of_the_host_decides_nothing(child: subprocess.Popen[bytes]) -> None:
    identity = replace(identity_of(child), host="renamed")
    assert not get_process_table().is_dead(identity)
    child.kill()
    child.wait()
    assert get_process_table().is_dead(identity)


def test_pid_namespaces_of_one_host_are_different_places() -> None:
    inside = wrap_in_pid_namespace([sys.executable, "-c", SAY_WHO])
    here = identify_this_process()
    places = {here.namespace}
    for _ in range(2):
        with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            found = parse_identity(other.stdout.readline().decode().strip())
            assert found is not None
            assert (found.host, found.pid) == (here.host, 1), "all that names were made of before"
            places.add(found.namespace)
            assert not get_process_table().is_dead(found)
            other.kill()
    assert len(places) >= 2
    assert "-" not in places


def written_proc(root: Path, *, boot: str | None, namespace: str | None, me: int) -> Path:
    """A /proc with two processes: this one as ``me``, and 4711."""
    for pid in ("self", "4711"):
        (root / pid / "ns").mkdir(parents=True)
    (root / "self" / "stat").write_text(f"{me} (python) S {' '.join('0' * 18)} 55 0")
    (root / "4711" / "stat").write_text(f"4711 (a) Z (b) S {' '.join('0' * 18)} 77 0")
    if namespace:
        (root / "self" / "ns" / "pid").symlink_to(namespace)
    if boot:
        (root / "sys/kernel/random").mkdir(parents=True)
        (root / "sys/kernel/random/boot_id").write_text(f"{boot}\n")
    return root


def test_the_boot_and_the_namespace_make_the_place(tmp_path: Path) -> None:
    found = {
        ProcessTable(
            written_proc(tmp_path / f"{boot}{space}", boot=boot, namespace=space, me=1)
        ).namespace
        for boot in ("boot-1", "boot-2")
        for space in ("pid:[1]", "pid:[2]")
    }
    assert len(found) == 4


@pytest.mark.parametrize(("boot", "namespace"), [(None, "pid:[1]"), ("boot-1", None), (None, None)])
def test_where_either_is_not_known_nobody_is_called_dead(
    tmp_path: Path, child: subprocess.Popen[bytes], boot: str | None, namespace: str | None
) -> None:
    table = ProcessTable(written_proc(tmp_path, boot=boot, namespace=namespace, me=os.getpid()))
    assert table.namespace == "-"
    identity = table.identify(child.pid)
    child.kill()
    child.wait()
    assert not table.is_dead(identity)


def test_a_program_may_be_called_anything(tmp_path: Path) -> None:
    table = ProcessTable(written_proc(tmp_path, boot="b", namespace="pid:[1]", me=os.getpid()))
    assert table.identify(4711).start_time == "77"


def test_a_proc_of_an_outer_namespace_is_not_asked(tmp_path: Path) -> None:
    """Its pids are others': a container may have been started without a /proc of its own."""
    table = ProcessTable(written_proc(tmp_path, boot="b", namespace="pid:[1]", me=os.getpid() + 1))
    assert table.identify(4711).start_time == "-"
