"""A log without room ends no process, and says afterwards how many lines it lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.core.process.stdio import LossyOutput


def test_lines_that_find_no_room_are_counted_and_the_rest_is_whole(tmp_path: Path) -> None:
    number = os.open("/dev/full", os.O_WRONLY)
    try:
        stream = LossyOutput(number)
        for n in range(3):
            stream.write(b"lost %d\n" % n)
            stream.flush()
        with (tmp_path / "log").open("wb") as room:
            os.dup2(room.fileno(), number)
        stream.write(b"first\n")
        stream.write(b"second\n")
    finally:
        os.close(number)
    notice, *lines = (tmp_path / "log").read_text().splitlines()
    assert json.loads(notice)["lost"] == 3
    assert lines == ["first", "second"]


def test_another_failure_is_not_passed_over() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(BrokenPipeError):
            LossyOutput(writer).write(b"x")
    finally:
        os.close(writer)


@pytest.mark.parametrize("place", ["stdout", "stderr"])
def test_a_process_prints_and_flushes_on(place: str) -> None:
    """As a worker does before it forks; without it the first flush raises, and every later one."""
    code = (
        "import sys; from worker.core.process.stdio import drop_output_on_full_disk;"
        " drop_output_on_full_disk();"
        f" print('Zo\\u00eb', file=sys.{place}); sys.stdout.flush(); sys.stderr.flush()"
    )
    with Path("/dev/full").open("w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, place: full}
        done = subprocess.run([sys.executable, "-c", code], check=False, **streams)  # type: ignore[call-overload]
    assert done.returncode == 0
