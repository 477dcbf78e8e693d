"""Versioned hash of a row's content, by which full walks find changed rows."""

import hashlib
from typing import Any, Final

HASH_VERSION: Final = b"\x02"
"""First byte of every hash: a new recipe is a new version, never a flood of false changes.

Whatever makes other rows of the same bytes is a new recipe, too.
"""

HASH_BYTES: Final = 16
"""Length of every hash, its version included."""


def hash_bytes(source: Any) -> bytes:
    digest = hashlib.sha256(source, usedforsecurity=False).digest()
    return HASH_VERSION + digest[: HASH_BYTES - 1]
