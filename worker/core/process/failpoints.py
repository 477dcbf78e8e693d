"""Places to die at, for tests: a promise to survive is worth what was killed to check it.

Nothing happens unless ``TENANT_MIRROR_CRASH_AT`` names a point (``page-fetched``, or ``:3`` behind
it for the third time that a process passes). ``TENANT_MIRROR_CRASH_MARK`` names a file that is
made when it happens, so that it happens once; ``TENANT_MIRROR_CRASH_WHO=parent`` kills the
worker's main process along with the child.
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
"""Every point, in the order in which a connection's work passes them."""

RELAY_FAILPOINTS: Final = ("events-delivered",)
"""Those that a relay passes."""

ERASURE_FAILPOINTS: Final = ("memberships-erased", "erasure-begun", "events-scrubbed")
"""Those that an erasure passes."""

_VARIABLE: Final = "TENANT_MIRROR_CRASH_AT"
_hit_counts: Counter[str] = Counter()


def hit_failpoint(name: str) -> None:
    """Die here if that is what the environment asks for.

    Raises ConfigurationError for a point there is not.
    """
    wanted = os.environ.get(_VARIABLE)
    if not wanted:
        return
    point, _, count = wanted.partition(":")
    known = SYNC_FAILPOINTS + RELAY_FAILPOINTS + ERASURE_FAILPOINTS
    if point not in known:
        raise ConfigurationError(f"{_VARIABLE}: {point!r} is not one of {', '.join(known)}")
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
