"""Opaque page and delta tokens.

A token holds its whole state and a checksum over its link, so a link that a client rebuilt or
re-encoded is refused. Its text holds `.`, `-`, `_` and `%2B`, which careless clients break.
"""

import base64
import struct
from dataclasses import astuple, dataclass
from enum import IntEnum
from hashlib import blake2b

from sandbox.tenant.errors import build_bad_request

_LAYOUT = struct.Struct(">BIQQQQIH")
_MAC = 6


class TokenMode(IntEnum):
    LIST = 1
    """A page of a plain list."""
    INITIAL = 2
    """A page of a first delta round, over all objects."""
    ROUND = 3
    """A page of a delta round over changes."""
    ROUND_START = 4
    """The start of a delta round."""


@dataclass(frozen=True, slots=True)
class TokenCursor:
    mode: TokenMode
    epoch: int
    select_mask: int
    """The selected properties."""
    next_round_at: int = 0
    """The log position at which the next round starts."""
    position: int = 0
    """A position in the list or in the log."""
    offset: int = 0
    """A slot within the group at that position."""
    page_number: int = 0
    """Pages served so far."""
    page_size: int = 0


class TokenCodec:
    """Encodes and decodes one tenant's tokens; `secret` binds a token to its tenant."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def _compute_mac(self, payload: bytes, link: str) -> bytes:
        return blake2b(
            payload + link.encode(), key=self._secret, digest_size=_MAC, usedforsecurity=False
        ).digest()

    def encode(self, cursor: TokenCursor, link: str) -> str:
        """Return the token for `link`, the part of the URL before the token."""
        payload = _LAYOUT.pack(*astuple(cursor))
        text = base64.b64encode(payload + self._compute_mac(payload, link)).decode()
        text = text.rstrip("=").replace("+", "%2B").replace("/", "_")
        return f"{text[:4]}.{text[4:]}%2B-_"

    def decode(self, token: str, link: str) -> TokenCursor:
        """Return the cursor, if token and link are unchanged byte for byte."""
        text = token.replace(".", "", 1).removesuffix("%2B-_").replace("%2B", "+").replace("_", "/")
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
            payload, mac = data[:-_MAC], data[-_MAC:]
            mode, *rest = _LAYOUT.unpack(payload)
            cursor = TokenCursor(TokenMode(mode), *rest)
        except (ValueError, struct.error):
            raise build_bad_request("The page token is badly formed.") from None
        if mac != self._compute_mac(payload, link) or token != self.encode(cursor, link):
            raise build_bad_request("The page token does not belong to this link.")
        return cursor
