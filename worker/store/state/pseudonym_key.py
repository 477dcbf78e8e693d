"""The key of pseudonyms: made with the schema, and exchanged on request."""

import secrets
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

_BLOCK: Final = 64
"""Bytes of a block of SHA-256."""
_ENSURE: Final = text("""
    insert into sync.pseudonym_key (inner_pad, outer_pad) values (:inner, :outer)
        on conflict do nothing
""")
_ROTATE: Final = text("""
    update sync.pseudonym_key set inner_pad = :inner, outer_pad = :outer, created_at = now()
""")


def ensure_pseudonym_key(db: sa.Connection) -> None:
    """Make a key if there is none."""
    db.execute(_ENSURE, _generate_pads())


def rotate_pseudonym_key(db: sa.Connection) -> None:
    """Exchange the key: everybody has another pseudonym from now on."""
    db.execute(_ROTATE, _generate_pads())


def _generate_pads() -> dict[str, bytes]:
    """Return the pads of a new key, as HMAC (RFC 2104) defines them."""
    key = secrets.token_bytes(32).ljust(_BLOCK, b"\0")
    return {
        "inner": bytes(byte ^ 0x36 for byte in key),
        "outer": bytes(byte ^ 0x5C for byte in key),
    }
