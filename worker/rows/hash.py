"""Versioned hash of a row's content, by which full walks find changed rows."""

import hashlib
from typing import Any, Final

HASH_VERSION: Final = b"\x03"
"""First byte of every hash. A new hash method needs a new version, to avoid false changes.

So does any change that decodes the same bytes to other rows.
"""

HASH_BYTES: Final = 16
"""Length of every hash, its version included."""


def hash_bytes(source: Any) -> bytes:
    digest = hashlib.sha256(source, usedforsecurity=False).digest()
    return HASH_VERSION + digest[: HASH_BYTES - 1]
