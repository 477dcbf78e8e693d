"""Standard Webhooks: how a receiver knows that a request is ours, whole, and of today.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from worker.core.errors import Halt

PREFIX: Final = "whsec_"
SHORTEST, LONGEST = 24, 64
"""Bytes of a secret."""

NEW: Final = 32


def new_secret() -> str:
    """A secret that nobody has had before, as it is handed to the receiver."""
    return PREFIX + base64.b64encode(secrets.token_bytes(NEW)).decode("ascii")


def key_of(secret: str) -> bytes:
    """The key inside a secret. Raises Halt, which never shows it, where it is none."""
    wanted = f"it must be {PREFIX} and {SHORTEST} to {LONGEST} bytes in base64"
    if not secret.startswith(PREFIX):
        raise Halt(f"a signing secret does not begin with {PREFIX}; {wanted}")
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise Halt(f"a signing secret is not base64; {wanted}") from None
    if not SHORTEST <= len(key) <= LONGEST:
        raise Halt(f"a signing secret has {len(key)} bytes; {wanted}")
    return key


def signed_headers(
    keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """The three headers of a request.

    One signature for each key: while a secret is being replaced, receivers may know either.
    ``timestamp`` is Unix time in whole seconds, of this attempt.
    """
    if not keys:
        raise Halt("a request cannot be signed without a secret")
    content = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(key, content) for key in keys),
    }


def _signature(key: bytes, content: bytes) -> str:
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")
