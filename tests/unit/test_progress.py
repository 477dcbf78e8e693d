"""Long work shows one line that changes on a terminal, and a line now and then in a pipe."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from worker.ops.cli.progress import Progress

SCRIPT = """
import sys
from worker.ops.cli.progress import Progress
total = int(sys.argv[1]) or None
with Progress("entra/contoso", total=total, every=0) as progress:
    for done in (10, 50, 100):
        progress.update(done, "deleting \\x1b[31m rows")
    progress.announce("it waits", at_once=True)
print("done", file=sys.stderr)
"""


def run_in_terminal(total: int, columns: int) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(ours, "rb") as reader:
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(total)],
            env={"PYTHONPATH": str(Path.cwd()), "LANG": "C.UTF-8"},
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            check=True,
            timeout=60,
        )
        os.close(theirs)
        return reader.read1(65536).decode()


@pytest.mark.parametrize("columns", [20, 80])
@pytest.mark.parametrize("total", [0, 100])
def test_a_terminal_shows_one_line_that_changes_and_is_gone_afterwards(
    total: int, columns: int
) -> None:
    shown = run_in_terminal(total, columns).split("\r\x1b[K")
    assert len(shown) == 6
    assert shown[-1] == "done\r\n"
    wrong = [line for line in shown[:-1] if not line.isprintable() or len(line) >= columns]
    assert wrong == []
    if columns == 80:
        expected = "[##########----------] " if total else ""
        assert shown[2].startswith(f"{expected}entra/contoso: deleting")
        assert ("50 of 100 (50%)" if total else "50 so far") in shown[2]


def test_a_pipe_gets_whole_lines_and_few_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert not isinstance(sys.stderr, io.TextIOWrapper) or not sys.stderr.isatty()
    with Progress("entra/contoso", total=4) as progress:
        progress.update(1, "rows")
        progress.update(2, "rows", at_once=True)
        progress.announce("soon")
        progress.announce("it waits", at_once=True)
    assert capsys.readouterr().err.splitlines() == [
        "entra/contoso: rows, 2 of 4 (50%)",
        "entra/contoso: it waits",
    ]


def test_programs_get_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("entra/contoso", total=4, is_silent=True) as progress:
        progress.update(1, "rows", at_once=True)
        progress.announce("it waits", at_once=True)
    assert capsys.readouterr().err == ""
