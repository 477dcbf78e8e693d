"""Failpoints: places at which tests kill the process, to check that it recovers.

They do nothing unless ``TENANT_MIRROR_CRASH_AT`` names one (``page-fetched``; ``page-fetched:3``
crashes at the third pass of a process). ``TENANT_MIRROR_CRASH_MARK`` names a file that is created
at the crash, so that it happens only once; ``TENANT_MIRROR_CRASH_WHO=parent`` also kills the
worker's main process.
"""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Final

from worker.core.errors import ConfigurationError

SYNC_FAILPOINTS: Final = (
    "claimed",
    "dispatched",
    "lease-taken",
    "run-opened",
    "switched",
    "cleared-batch",
    "opened",
    "walk-begun",
    "page-fetched",
    "page-written",
    "page-committed",
    "walk-complete",
    "sweep-prepared",
    "sweep-batch",
    "sweep-ended",
    "removals-batch",
    "round-settled",
    "books-closed",
    "lease-released",
)
"""The failpoints of a sync, in the order in which it passes them."""

RELAY_FAILPOINTS: Final = ("events-delivered",)
"""The failpoints of a relay."""

ERASURE_FAILPOINTS: Final = ("memberships-erased", "erasure-begun", "events-scrubbed")
"""The failpoints of an erasure."""

OPERATION_FAILPOINTS: Final = ("operation-target", "operation-decided", "approved-batch")
"""The failpoints of an operation."""

_FAILPOINTS: Final = SYNC_FAILPOINTS + RELAY_FAILPOINTS + ERASURE_FAILPOINTS + OPERATION_FAILPOINTS
_VARIABLE: Final = "TENANT_MIRROR_CRASH_AT"
_hit_counts: Counter[str] = Counter()


def hit_failpoint(name: str) -> None:
    """Kill the process if the environment names this failpoint.

    Raises ConfigurationError if the environment names an unknown failpoint.
    """
    wanted = os.environ.get(_VARIABLE)
    if not wanted:
        return
    point, _, count = wanted.partition(":")
    if point not in _FAILPOINTS:
        raise ConfigurationError(f"{_VARIABLE}: {point!r} is not one of {', '.join(_FAILPOINTS)}")
    if point != name:
        return
    _hit_counts[name] += 1
    if _hit_counts[name] >= int(count or 1) and _claim_mark_file():
        if os.environ.get("TENANT_MIRROR_CRASH_WHO") == "parent":
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def _claim_mark_file() -> bool:
    mark = os.environ.get("TENANT_MIRROR_CRASH_MARK")
    if mark is None:
        return True
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
