"""Signatures against values that were not made by the code under test."""

import base64
import hashlib
import hmac

import pytest

from worker.core.errors import InvalidInput, SinkMisconfigured
from worker.delivery.senders.signature import build_signature_headers, generate_secret, parse_secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""The example that the specification's own libraries are tested with, and its signature."""

MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
MOMENT = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def by_hand(secret: str, content: bytes) -> str:
    """HMAC spelled out (RFC 2104), so that only SHA-256 is shared with the code."""
    key = base64.b64decode(secret.split("_", 1)[1]).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + content).digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()
    return "v1," + base64.b64encode(outer).decode()


def test_the_published_example_is_signed_as_published() -> None:
    headers = build_signature_headers([parse_secret(SECRET)], MESSAGE, MOMENT, BODY)
    assert headers == {
        "webhook-id": MESSAGE,
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


def test_hmac_by_hand_gives_the_same() -> None:
    content = b"%b.%d.%b" % (MESSAGE.encode(), MOMENT, BODY)
    assert by_hand(SECRET, content) == SIGNATURE
    for secret in (generate_secret(), generate_secret()):
        headers = build_signature_headers([parse_secret(secret)], MESSAGE, MOMENT, BODY)
        assert headers["webhook-signature"] == by_hand(secret, content)
        known = hmac.new(base64.b64decode(secret[6:]), content, "sha256").digest()
        assert headers["webhook-signature"] == "v1," + base64.b64encode(known).decode()


def test_while_secrets_rotate_each_of_them_signs() -> None:
    other = generate_secret()
    both = build_signature_headers(
        [parse_secret(SECRET), parse_secret(other)], MESSAGE, MOMENT, BODY
    )
    first, second = both["webhook-signature"].split(" ")
    assert first == SIGNATURE
    alone = build_signature_headers([parse_secret(other)], MESSAGE, MOMENT, BODY)
    assert second == alone["webhook-signature"]
    assert second != first


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff\x00", "ü".encode(), b'{"a":1}\n'])
def test_the_bytes_are_signed_as_they_are(body: bytes) -> None:
    headers = build_signature_headers([parse_secret(SECRET)], "a", 1, body)
    assert headers["webhook-signature"] == by_hand(SECRET, b"a.1." + body)


def test_id_moment_and_body_all_matter() -> None:
    key = parse_secret(SECRET)
    made = {
        build_signature_headers([key], *parts)["webhook-signature"]
        for parts in (("a", 1, b"x"), ("b", 1, b"x"), ("a", 2, b"x"), ("a", 1, b"y"))
    }
    assert len(made) == 4


def test_new_secrets_differ_and_can_be_read() -> None:
    made = {generate_secret() for _ in range(20)}
    assert len(made) == 20
    assert {len(parse_secret(secret)) for secret in made} == {32}


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "whsec_"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begin"),
        ("whsec_", "0 bytes"),
        ("whsec_c2hvcnQ=", "5 bytes"),
        ("whsec_" + base64.b64encode(b"x" * 65).decode(), "65 bytes"),
        ("whsec_not base64 at all, by no means", "base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", "base64"),
        ("whsec_äöü", "base64"),
    ],
)
def test_what_is_no_secret_is_refused_and_never_shown(secret: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        parse_secret(secret)
    rest = secret.removeprefix("whsec_")
    assert not rest or rest not in str(refused.value)


def test_nothing_leaves_unsigned() -> None:
    with pytest.raises(SinkMisconfigured, match="secret"):
        build_signature_headers([], MESSAGE, MOMENT, BODY)
