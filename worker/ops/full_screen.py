"""A terminal's whole screen: taken over, drawn line by line, and left as it was.

Only lines that changed are written, within one synchronized update, so nothing flickers. However
the program ends (but for SIGKILL), the terminal's mode, cursor and former contents come back.
"""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Final, Self

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_BEGIN_UPDATE: Final = "\x1b[?2026h"
_END_UPDATE: Final = "\x1b[?2026l"
_CLEAR: Final = "\x1b[2J"
_COLUMN_1: Final = ";1H"
_CLEAR_REST: Final = "\x1b[K"
_MOVED_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGWINCH)


class FullScreen:
    """The alternate screen of the terminal that stdout is; keys are read from stdin.

    SIGTERM and SIGHUP raise SystemExit in the main thread. Ctrl-Z gives the terminal back until
    the program continues.
    """

    def __init__(self) -> None:
        self._output, self._keys = sys.stdout.fileno(), sys.stdin.fileno()
        self._reads_keys = os.isatty(self._keys)
        self._mode: list[Any] | None = None
        self._shown: list[str] = []
        self._is_taken = False
        self._is_stale = True
        """Whether the screen may show something else than what was drawn last."""
        self._former: dict[int, Any] = {}
        self._wakeup, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def __enter__(self) -> Self:
        for number in _MOVED_SIGNALS:
            self._former[number] = signal.signal(number, self._handle_signal)
        try:
            self._take()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one in (signal.SIGINT, *_MOVED_SIGNALS):
            former = signal.signal(one, signal.SIG_IGN)
            self._former.setdefault(one, former)
        try:
            self._give_back()
        finally:
            for number, former in self._former.items():
                signal.signal(number, former)
            os.close(self._wakeup)
            os.close(self._wake)

    def draw(self, lines: Sequence[str], fills_row: Callable[[str], bool]) -> None:
        """Show these lines and nothing else; what is behind a line that fills its row is kept."""
        after, before = list(lines), self._shown
        is_new = self._is_stale or len(before) != len(after)
        self._is_stale = False  # a signal during this update makes the next one write everything
        changed = [
            f"\x1b[{row}{_COLUMN_1}{text}{'' if fills_row(text) else _CLEAR_REST}"
            for row, text in enumerate(after, 1)
            if is_new or text != before[row - 1]
        ]
        if changed:
            clear = _CLEAR if is_new else ""
            self._write(f"{_BEGIN_UPDATE}{clear}{''.join(changed)}{_END_UPDATE}")
        self._shown = after

    def wait_for_key(self, seconds: float) -> str | None:
        """Return a key that is pressed within so many seconds.

        None if there is none, or if the size changed or ``wake`` was called.
        """
        sources = [self._wakeup, *([self._keys] if self._reads_keys else [])]
        ready, _, _ = select.select(sources, [], [], max(0.0, seconds))
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
        if self._keys not in ready:
            return None
        pressed = os.read(self._keys, 64)
        self._reads_keys = bool(pressed)  # at its end it would be ready for ever
        return pressed.decode(errors="replace")

    def wake(self) -> None:
        """Let ``wait_for_key`` return now; for other threads and signals."""
        with suppress(BlockingIOError):  # it is full, so it wakes anyway
            os.write(self._wake, b"x")

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGWINCH:
            self._is_stale = True
            self.wake()
        elif number == signal.SIGTSTP:
            self._give_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._take()
            self.wake()
        else:
            raise SystemExit(128 + number)

    def _take(self) -> None:
        if self._reads_keys:
            self._mode = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSADRAIN)
        self._is_taken = self._is_stale = True
        self._write(_ENTER)

    def _give_back(self) -> None:
        """Restore the terminal; it may be gone already."""
        if self._is_taken:
            self._is_taken = False
            with suppress(OSError):
                self._write(_LEAVE)
        if self._mode is not None:
            with suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._mode)
            self._mode = None

    def _write(self, text: str) -> None:
        left = text.encode(sys.stdout.encoding, "replace")
        while left:
            left = left[os.write(self._output, left) :]
