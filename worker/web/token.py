"""Tokens of the HTTP API: ``tm_<id>_<secret>``, made, parsed and compared."""

import hashlib
import hmac
import re
import secrets
from typing import Final, NamedTuple

_ID_BYTES: Final = 5
_SECRET_BYTES: Final = 32
"""256 random bits cannot be guessed, so a fast hash is enough."""

_FORM: Final = re.compile(r"tm_([0-9a-f]{10})_[A-Za-z0-9_-]{43}", re.ASCII)


class NewToken(NamedTuple):
    """A token that was just made. Its text is shown once and stored nowhere."""

    id: str
    text: str
    digest: bytes


def generate_token() -> NewToken:
    """Return a new token with a random id and secret."""
    number = secrets.token_hex(_ID_BYTES)
    made = f"tm_{number}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return NewToken(number, made, digest_token(made))


def parse_token_id(presented: str) -> str | None:
    """Return the id of a token that a client presents; None if it is no token of ours."""
    found = _FORM.fullmatch(presented)
    return found[1] if found else None


def digest_token(token: str) -> bytes:
    """Return the SHA-256 of a whole token, which is what is stored."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def is_token(presented: str, digest: bytes) -> bool:
    """Whether a presented token has this digest; takes the same time for every wrong one."""
    return hmac.compare_digest(digest_token(presented), digest)
