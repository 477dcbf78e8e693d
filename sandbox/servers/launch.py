"""Change the user, request a signal for the parent's death, and exec the program.

A separate program and not a `preexec_fn`, which may deadlock in a process with threads. It is run
by path with `-I -S`, and so imports no module of ours.

Usage: launch.py PARENT_PID SIGNAL UID:GID|- PROGRAM ARGUMENT...
"""

import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def _load_prctl() -> Callable[[int], object]:
    """Return prctl's signal request. Linux only; elsewhere children outlive a killed supervisor."""
    if not sys.platform.startswith("linux"):
        return lambda _number: None
    try:
        import ctypes  # noqa: PLC0415 (absent from some builds of Python)
    except ImportError:
        return lambda _number: None
    libc = ctypes.CDLL(None)
    return lambda number: libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def main(arguments: list[str]) -> None:
    """Run the program. Never returns; exits with 127 if the program cannot be run."""
    parent, number, owner, *command = arguments
    # Loaded before the change of user, as the new one may not be able to read our Python, ...
    ask_for = _load_prctl()
    if owner != "-":
        uid, gid = map(int, owner.split(":"))
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    # ... and requested after it, because the change clears the request.
    ask_for(int(number))
    if os.getppid() != int(parent):
        sys.exit("the supervisor is gone")
    # Python ignores these signals at its start, and the program would inherit that.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 (no shell is wanted)
    except OSError as error:
        print(f"{command[0]} cannot be run: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
