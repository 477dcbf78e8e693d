"""How tests are handed out to the processes of a run: file by file, with few exceptions."""

from typing import Final

from xdist.scheduler import LoadFileScheduling

SPREAD: Final = frozenset({"test_any_history.py"})
"""Files whose tests take minutes each and share nothing: any process may take any of them."""


class SpreadingScheduling(LoadFileScheduling):  # type: ignore[misc]
    """Gives a whole file to one process, except those that are spread over all of them."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return nodeid if file.rpartition("/")[2] in SPREAD else file
