"""The progress of long work, on stderr: a line that changes on a terminal, lines in a pipe."""

import sys
import time
from types import TracebackType
from typing import Final, Self

from worker.core.printable import to_one_line
from worker.ops.cli.output import print_line
from worker.ops.cli.table_layout import detect_width

_TERMINAL_SECONDS: Final = 0.2
_PIPE_SECONDS: Final = 2.0
_BAR_WIDTH: Final = 20
_MIN_BAR_ROOM: Final = 50
_CLEAR_LINE: Final = "\r\x1b[K"


class Progress:
    """How far work is. Use it as a context: on a terminal its line is removed at the end.

    With a ``total`` it shows a bar and the share, else a counter; if it ``is_silent``, nothing.
    """

    def __init__(
        self,
        label: str,
        *,
        total: int | None = None,
        every: float | None = None,
        is_silent: bool = False,
    ) -> None:
        self._label = label
        self._is_silent = is_silent
        self.total = total
        self.is_terminal = sys.stderr.isatty()
        usual = _TERMINAL_SECONDS if self.is_terminal else _PIPE_SECONDS
        self._every = usual if every is None else every
        self._next = time.monotonic() + self._every
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()

    def update(self, done: int, what: str, *, at_once: bool = False) -> None:
        """Show how much is done of the total, or so far; ``what`` says of what."""
        if self._is_due(at_once=at_once):
            self._show(self._render(done, what))

    def announce(self, text: str, *, at_once: bool = False) -> None:
        """Show a sentence, such as why the work waits: ``at_once``, or when a line is due."""
        if self._is_due(at_once=at_once):
            self._show(f"{self._label}: {text}")

    def clear(self) -> None:
        """Remove the line from a terminal, so that other lines can be printed."""
        if self._is_shown:
            self._is_shown = False
            sys.stderr.write(_CLEAR_LINE)
            sys.stderr.flush()

    def _is_due(self, *, at_once: bool) -> bool:
        """Whether to show something now; if so, the next is due after the usual time."""
        now = time.monotonic()
        if self._is_silent or not (at_once or now >= self._next):
            return False
        self._next = now + self._every
        return True

    def _render(self, done: int, what: str) -> str:
        if not self.total:
            return f"{self._label}: {what}, {done:,} so far"
        share = min(1.0, done / self.total)
        text = f"{self._label}: {what}, {done:,} of {self.total:,} ({share:.0%})"
        if not self.is_terminal or (detect_width(sys.stderr) or 0) < _MIN_BAR_ROOM:
            return text
        filled = round(share * _BAR_WIDTH)
        return f"[{'#' * filled}{'-' * (_BAR_WIDTH - filled)}] {text}"

    def _show(self, text: str) -> None:
        if not self.is_terminal:
            print_line(text, err=True)
            return
        from worker.ops.cli.attention_rows import fit_cells

        width = detect_width(sys.stderr) or 1
        self._is_shown = True
        sys.stderr.write(_CLEAR_LINE + fit_cells(to_one_line(text), width - 1))
        sys.stderr.flush()
