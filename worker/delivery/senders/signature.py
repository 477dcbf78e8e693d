"""Standard Webhooks signatures: they prove a request's origin, integrity and age.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from worker.core.errors import InvalidInput, SinkMisconfigured

KEY_PREFIX: Final = "whsec_"
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
"""Bounds of a secret's length, in bytes."""

NEW_SECRET_BYTES: Final = 32


def generate_secret() -> str:
    """Return a new random secret, in the form that the receiver gets."""
    return KEY_PREFIX + base64.b64encode(secrets.token_bytes(NEW_SECRET_BYTES)).decode("ascii")


def parse_secret(secret: str) -> bytes:
    """Return the key inside a secret.

    Raises InvalidInput, without showing the secret, if it is invalid.
    """
    wanted = f"it must be {KEY_PREFIX} and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes in base64"
    if not secret.startswith(KEY_PREFIX):
        raise InvalidInput(f"a signing secret does not begin with {KEY_PREFIX}; {wanted}")
    try:
        key = base64.b64decode(secret.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"a signing secret is not base64; {wanted}") from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise InvalidInput(f"a signing secret has {len(key)} bytes; {wanted}")
    return key


def build_signature_headers(
    keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes
) -> dict[str, str]:
    """Return the three signature headers of a request.

    One signature for each key: while a secret is being replaced, receivers may know either.
    ``timestamp`` is the Unix time of this attempt in whole seconds.
    """
    if not keys:
        raise SinkMisconfigured("a request cannot be signed without a secret")
    content = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_sign(key, content) for key in keys),
    }


def _sign(key: bytes, content: bytes) -> str:
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")
