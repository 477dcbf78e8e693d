"""``status --watch`` fills a terminal, and leaves it as it was however it ends."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from rich.cells import cell_len
from sqlalchemy import text

from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from tests.support.fork_server import COMMAND, run_command
from worker.core.settings import load_settings
from worker.ops.cli.watch_screen import FleetLook, WatchState, build_screen
from worker.overview.fleet import load_fleet
from worker.overview.listing import ConnectionFilter, Sort, list_connections
from worker.store.engine import Database
from worker.store.service.workers import list_workers

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
END_UPDATE = b"\x1b[?2026l"
SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"
NUMBER, BROKEN = 40, 30
Size = tuple[int, int]


class Terminal:
    """A program in a terminal of its own."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], size: Size = (24, 80)
    ) -> None:
        self.output = b""
        self._rows: dict[int, str] = {}
        self._seen = self._row = 0
        self._keyboard, self._tty = pty.openpty()
        self.resize(*size)
        self.mode = termios.tcgetattr(self._tty)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(self._tty, termios.TIOCSCTTY, 0)
            for number in range(3):
                os.dup2(self._tty, number)
            os.closerange(3, 1024)
            os.execvpe(  # noqa: S606 - there is no shell to start it
                command[0], list(command), {**environment, "TERM": "xterm"}
            )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._tty, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def wait_for(self, condition: Callable[[list[str]], object], seconds: float = 40) -> list[str]:
        """The rows of the screen, as soon as they meet the condition."""
        end = time.monotonic() + seconds
        while not condition(rows := self.read_rows()):
            assert time.monotonic() < end, f"{rows}\n{self.output[-2000:]!r}"
        return rows

    def read_rows(self) -> list[str]:
        if select.select([self._keyboard], [], [], 0.1)[0]:
            self.output += os.read(self._keyboard, 65536)
        done = self.output[: max(0, self.output.rfind(END_UPDATE))]
        for found in re.finditer(
            r"\x1b\[(\d+);1H|\x1b\[(2J)|\x1b\[[?0-9;]*[a-zA-Z]|([^\x1b]+)",
            done[self._seen :].decode(),
        ):
            if found[1]:
                self._row = int(found[1])
                self._rows[self._row] = ""
            elif found[2]:
                self._rows.clear()
            elif found[3] and self._row:
                self._rows[self._row] += found[3]
        self._seen = len(done)
        return [self._rows[row] for row in sorted(self._rows)]

    def wait(self, seconds: float = 20) -> int:
        """The exit code; afterwards the whole output is read."""
        end = time.monotonic() + seconds
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            assert time.monotonic() < end, self.output[-2000:]
            self.read_rows()
        while select.select([self._keyboard], [], [], 0.1)[0]:
            self.output += os.read(self._keyboard, 65536)
        return os.waitstatus_to_exitcode(ended[1])

    def assert_restored(self) -> None:
        assert termios.tcgetattr(self._tty) == self.mode
        assert self.output.count(ENTER) == self.output.count(LEAVE) == 1
        behind = self.output.split(LEAVE)[1]
        assert b"\x1b[?" not in behind
        assert self.output.rfind(SHOW_CURSOR) > self.output.rfind(HIDE_CURSOR)

    def close(self) -> None:
        os.close(self._keyboard)
        os.close(self._tty)


@pytest.fixture(scope="module")
def url(cluster: DatabaseFactory) -> Iterator[str]:
    made = cluster.create_migrated()
    database = Database(made)
    fill_fleet(database, NUMBER)
    with database.open_transaction() as db:
        db.execute(
            text(
                "update sync.connections set settings_problem = 'x must be a number'"
                f" where id <= {BROKEN}"
            )
        )
        db.execute(text("update sync.connections set display_name = '雪' || repeat('雪', 40)"))
    database.close()
    yield made
    cluster.drop(made)


@pytest.fixture
def watch(url: str) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []
    database = Database(url)
    revive_service(database)
    database.close()

    def start(size: Size = (24, 80)) -> Terminal:
        environment = {"DATABASE_URL": url, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        command = [*COMMAND, "status", "--watch", "--interval", "0.5"]
        opened.append(Terminal(command, environment, size))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def has_look(rows: list[str]) -> bool:
    return bool(rows) and rows[0].startswith(f"{NUMBER} connections")


@pytest.mark.parametrize(
    ("end", "code"), [("q", 0), ("\x03", 0), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_it_ends_at_once_and_leaves_the_terminal_as_it_was(
    watch: Callable[..., Terminal], end: str | int, code: int
) -> None:
    terminal = watch()
    terminal.wait_for(has_look)
    if isinstance(end, str):
        terminal.press(end)
    else:
        os.kill(terminal.pid, end)
    assert terminal.wait() == code
    terminal.assert_restored()


def test_another_size_is_drawn_anew_and_the_rest_is_counted(
    watch: Callable[..., Terminal],
) -> None:
    terminal = watch((60, 100))
    rows = terminal.wait_for(has_look)
    assert sum("settings_wrong" in row for row in rows) == BROKEN
    terminal.resize(8, 40)
    os.kill(terminal.pid, signal.SIGWINCH)
    rows = terminal.wait_for(lambda rows: len(rows) == 8 and has_look(rows))
    assert max(map(cell_len, rows)) <= 40
    assert re.match(r"2\d lines more", rows[-2])
    assert "q ends" in rows[-1]
    terminal.press("q")
    assert terminal.wait() == 0


def test_without_its_database_it_shows_the_last_state_its_age_and_why(
    watch: Callable[..., Terminal], url: str, cluster: DatabaseFactory
) -> None:
    name = url.rpartition("/")[2]
    terminal = watch()
    terminal.wait_for(has_look)
    try:
        cluster._execute(f"alter database {name} allow_connections false")
        cluster._execute(
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        )
        rows = terminal.wait_for(lambda rows: rows and " ago: " in rows[-1])
        assert has_look(rows), "the last state stays"
    finally:
        cluster._execute(f"alter database {name} allow_connections true")
    terminal.wait_for(lambda rows: "every 0.5 s" in rows[-1])
    terminal.press("q")
    assert terminal.wait() == 0
    terminal.assert_restored()


RAISING = """
from worker.ops.full_screen import FullScreen
with FullScreen() as screen:
    screen.draw(["shown"], lambda line: False)
    raise ValueError("this is said afterwards")
"""


def test_after_an_error_the_terminal_is_as_it_was_and_shows_the_error() -> None:
    terminal = Terminal([sys.executable, "-c", RAISING], dict(os.environ))
    try:
        assert terminal.wait() == 1
        terminal.assert_restored()
        assert b"this is said afterwards" in terminal.output.split(LEAVE)[1]
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--watch"], "needs a terminal"),
        (["--interval", "3"], "--interval goes with --watch"),
        (["--watch", "--json"], "goes with none of"),
    ],
)
def test_a_pipe_and_options_that_do_not_fit_are_refused(
    url: str, words: list[str], said: str
) -> None:
    done = run_command(["status", *words], {"DATABASE_URL": url})
    assert done.returncode == 2
    assert said in done.stderr
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("connection_id", [None, 7])
def test_every_size_is_filled_exactly_and_shows_the_totals_first(
    url: str, connection_id: int | None
) -> None:
    database = Database(url)
    fleet = load_fleet(database, load_settings())
    with database.open_transaction() as db:
        workers = list_workers(db)
    database.close()
    rows = list_connections(fleet, ConnectionFilter(attention=True), sort=Sort.SEVERITY).rows
    look = FleetLook(fleet, workers, rows, connection_id)
    states: list[Any] = [
        WatchState(look, 3.0, 2.0),
        WatchState(look, 90.0, 2.0, "Postgres does not answer"),
        WatchState(None, 1.0, 2.0, "Postgres does not answer"),
    ]
    for state in states:
        for width in (1, 7, 20, 40, 80, 200):
            for height in (1, 2, 3, 5, 24, 100):
                lines = build_screen(state, width, height)
                assert len(lines) == height
                assert max(cell_len(line.text) for line in lines) <= width
                if state.look and height > 2 and width >= 20:
                    assert lines[0].text.startswith(f"{NUMBER} connections")
