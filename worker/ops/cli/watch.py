"""``status --watch``: the status on the whole screen, looked at again and again."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

import click

from worker.core.errors import MirrorError
from worker.core.settings import Settings
from worker.ops.cli.screen_lines import ScreenLine
from worker.ops.cli.table_layout import detect_height, detect_width
from worker.ops.cli.watch_screen import FleetLook, WatchState, build_screen
from worker.ops.full_screen import FullScreen
from worker.overview.budget import open_shared_limiter
from worker.overview.fleet import load_fleet
from worker.overview.listing import ConnectionFilter, Sort, list_connections
from worker.store.engine import Database
from worker.store.service.workers import list_workers

if TYPE_CHECKING:
    from worker.nango.limiter import RateLimiter

_REDRAW_SECONDS = 1.0
_JOIN_SECONDS = 1.0
_END_KEYS = frozenset("qQ\x03\x04")


def require_terminal(environment: Mapping[str, str] = os.environ) -> None:
    """Raise UsageError if stdout is no terminal that can be drawn on."""
    if not sys.stdout.isatty() or environment.get("TERM", "dumb") == "dumb":
        raise click.UsageError(
            "--watch needs a terminal; in a pipe or a file, use 'tenant-mirror status' or --json"
        )


def watch_fleet(
    database: Database,
    settings: Settings,
    wanted: ConnectionFilter,
    *,
    connection_id: int | None,
    interval: float,
) -> None:
    """Show the fleet until q or Ctrl-C. Raises unexpected errors of a look."""
    with FullScreen() as screen:
        looker = _Looker(database, settings, wanted, connection_id, interval, screen.wake)
        looker.start()
        try:
            with suppress(KeyboardInterrupt):  # Ctrl-C ends it
                _show(screen, looker)
        finally:
            looker.stop()


def _show(screen: FullScreen, looker: "_Looker") -> None:
    while True:
        state = looker.get_state()
        width = detect_width(sys.stdout) or 1
        lines = build_screen(state, width, detect_height(sys.stdout) or 1)
        screen.draw(list(map(_style, lines)), partial(_fills, width))
        key = screen.wait_for_key(_REDRAW_SECONDS)
        if key is not None and _END_KEYS.intersection(key[:1]):
            return


def _style(line: ScreenLine) -> str:
    if not (line.is_bold or line.color) or os.environ.get("NO_COLOR"):
        return line.text
    return click.style(line.text, bold=line.is_bold or None, fg=line.color)


def _fills(width: int, text: str) -> bool:
    from rich.cells import cell_len

    return cell_len(click.unstyle(text)) >= width


class _Looker:
    """Looks at the fleet in a thread of its own, so that keys are answered while a server hangs."""

    def __init__(  # noqa: PLR0917 - all are facts of one look
        self,
        database: Database,
        settings: Settings,
        wanted: ConnectionFilter,
        connection_id: int | None,
        interval: float,
        on_change: Callable[[], None],
    ) -> None:
        self._database, self._settings = database, settings
        self._wanted, self._connection_id = wanted, connection_id
        self._interval, self._on_change = interval, on_change
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._look: FleetLook | None = None
        self._looked_at = time.monotonic()
        self._problem: str | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="look", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it; a look that waits for a server is abandoned."""
        self._ended.set()
        self._thread.join(_JOIN_SECONDS)

    def get_state(self) -> WatchState:
        """Return what was found last. Raises the error that ended the looks."""
        with self._lock:
            if self._error is not None:
                raise self._error
            age = time.monotonic() - self._looked_at
            return WatchState(self._look, age, self._interval, self._problem)

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                limiter = open_shared_limiter(self._settings)
                if limiter is not None:
                    stack.callback(limiter.close)
                while not self._ended.is_set():
                    start = time.monotonic()
                    self._look_once(limiter)
                    if not self._ended.is_set():
                        self._on_change()
                    # A look never takes more than half of the time.
                    self._ended.wait(max(self._interval, time.monotonic() - start))
        except BaseException as error:  # noqa: BLE001 - raised by who shows the state
            with self._lock:
                self._error = error
            if not self._ended.is_set():
                self._on_change()

    def _look_once(self, limiter: "RateLimiter | None") -> None:
        try:
            look, problem = self._load(limiter)
        except MirrorError as error:
            look, problem = None, error.message
        with self._lock:
            self._problem = problem
            if look is not None:
                self._look, self._looked_at = look, time.monotonic()

    def _load(self, limiter: "RateLimiter | None") -> tuple[FleetLook | None, str | None]:
        """Return a look; without Postgres only why there is none."""
        number = self._connection_id
        ids = None if number is None else [number]
        fleet = load_fleet(self._database, self._settings, ids=ids, limiter=limiter)
        if fleet.service.database_problem is not None:
            return None, fleet.service.database_problem
        with self._database.open_transaction() as db:
            workers = list_workers(db)
        page = list_connections(fleet, self._wanted, sort=Sort.SEVERITY, limit=None)
        return FleetLook(fleet, workers, page.rows, number), None
