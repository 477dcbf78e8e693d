"""The file of Nango's key, whose content may be replaced while processes run."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.core.log import get_logger
from worker.core.secret import SecretStr

KEY_VARIABLE: Final = "NANGO_SECRET_KEY"

_Signature = tuple[int, int, int, int]


class KeyFile:
    """Notices that the file that ``NANGO_SECRET_KEY_FILE`` names has another content.

    Open it before the settings are read, so that no change between the two is missed.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get(f"{KEY_VARIABLE}_FILE")
        self._path = Path(path) if path and not environ.get(KEY_VARIABLE) else None
        self._seen = self._look()

    def read_if_changed(self) -> SecretStr | None:
        """Return the key if the file has changed since the last look, else None.

        A file that is missing, empty or unreadable for a moment changes nothing.
        """
        found = self._look()
        if found is None or found == self._seen or self._path is None:
            return None
        try:
            text = self._path.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            get_logger().warning("file of Nango's key not read", reason=type(error).__name__)
            return None
        self._seen = found
        return SecretStr(text) if text else None

    def _look(self) -> _Signature | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
