"""No piece of a password gets into a message, however a URL is torn apart by it."""

from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.sink import SinkKind
from tests.unit.test_nango_client import everything_said
from worker.app import build_broker_url
from worker.core.errors import MirrorError
from worker.core.log import redact_secrets
from worker.core.net.url import proxy_from_setting
from worker.core.secret import SecretStr
from worker.core.settings import load_settings
from worker.delivery.senders.redis_stream import open_redis_stream
from worker.delivery.settings import build_stored_sink
from worker.delivery.store.sinks import Sink
from worker.graph.throttle import GraphThrottle
from worker.nango.client import NangoClient
from worker.nango.kv_store import RedisStore
from worker.store.engine import Database

PIECES = ["Zq7Xv9Kw", "jR4tYb2N", "4096", "hV8m"]
ODD = list("@/:#?[]%&=\\ '\"<>,;+~$!{}|^`")
ODD += ["://", "%zz", "%00", "%40", "\u00fc", "\u2028", "\ud800"]

parts = st.sampled_from(PIECES) | st.sampled_from(ODD) | st.characters(codec=None)
passwords = st.lists(parts, min_size=1, max_size=6).map("".join)


def windows(password: str) -> set[str]:
    """Every four characters of it, and what they are once they have been decoded or folded."""
    known = "".join(PIECES)
    found = {password[at : at + 4] for at in range(len(password) - 3)}
    return {one for one in found if any(letter in known for letter in one) and one != "4096"}


def use_database(address: str) -> None:
    given = load_settings(database_url=address)
    assert given.database_url is not None
    made = Database(given.database_url.get_secret_value())
    try:
        with made.open_transaction():
            pass
    finally:
        made.close()


def use_redis(address: str) -> None:
    given = load_settings(redis_url=address)
    build_broker_url(given)
    assert given.redis_url is not None
    RedisStore(given.redis_url.get_secret_value()).close()


def use_stream(address: str) -> None:
    build_stored_sink(SinkKind.REDIS_STREAM, address, {})
    sink = Sink(1, "s", SinkKind.REDIS_STREAM, 1, settings={}, secrets={"url": address})
    open_redis_stream(sink, load_settings()).close()


def use_nango(address: str) -> None:
    host = load_settings(nango_host=address).nango_host
    NangoClient(host, "key", throttle=GraphThrottle()).close()


def use_proxy(address: str) -> None:
    load_settings(nango_proxy=address)
    load_settings(webhook_proxy=address)
    proxy_from_setting(SecretStr(address), "TENANT_MIRROR_NANGO_PROXY")


def use_webhook(address: str) -> None:
    build_stored_sink(SinkKind.WEBHOOK, address, {"allow_http": True})


USES: list[tuple[Callable[[str], None], str]] = [
    (use_database, "postgresql://mirror:{}@127.0.0.1:1/mirror"),
    (use_database, "postgresql://mirror:{}@127.0.0.1:1,127.0.0.1:2/mirror?connect_timeout=2"),
    (use_redis, "redis://:{}@127.0.0.1:1/0"),
    (use_redis, "rediss://mirror:{}@127.0.0.1:1/0"),
    (use_redis, "unix:///run/none.sock?password={}"),
    (use_stream, "redis://:{}@127.0.0.1:1/0"),
    (use_nango, "https://mirror:{}@nango.example:3003"),
    (use_proxy, "http://mirror:{}@proxy.example:3128"),
    (use_webhook, "https://mirror:{}@hooks.example/in"),
]


def said_by(use: Callable[[str], None], address: str) -> str:
    """What a failure tells; only a Trouble may leave."""
    try:
        use(address)
    except MirrorError as error:
        return everything_said(error)
    except ValueError as error:
        assert use is use_proxy
        return everything_said(error)
    return ""


@pytest.mark.parametrize(("use", "shape"), USES, ids=lambda one: getattr(one, "__name__", one))
@given(password=passwords)
@example(password="Zq7Xv9Kw@jR4tYb2N")
@example(password="Zq7Xv9Kw/jR4tYb2N")
@example(password="4096/Zq7Xv9Kw@jR4tYb2N")
@example(password="4096?Zq7Xv9Kw=jR4tYb2N")
@example(password="Zq7Xv9Kw@jR4tYb2N?hV8m=hV8m")
@example(password="Zq7Xv9Kw[jR4tYb2N")
@example(password="Zq7Xv9Kw@jR4tYb2N:hV8m/4096")
@example(password="Zq7Xv9Kw%00jR4tYb2N")
@example(password="Zq7Xv9Kw#jR4tYb2N hV8m")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_piece_of_a_password_is_told(
    use: Callable[[str], None], shape: str, password: str
) -> None:
    said = said_by(use, shape.format(password)).lower()
    assert {one for one in windows(password) if one.lower() in said} == set()
    with suppress(UnicodeEncodeError):
        told = said_by(use, shape.format(quote(password, safe=""))).lower()
        assert {one for one in windows(password) if one.lower() in told} == set()


@given(password=passwords.filter(lambda one: not any(letter.isspace() for letter in one)))
@example(password="Zq7Xv9Kw/jR4tYb2N")
@example(password="Zq7Xv9Kw@jR4tYb2N")
@settings(max_examples=200, deadline=None)
def test_no_piece_of_a_password_in_a_url_gets_into_a_log(password: str) -> None:
    for shape in ("postgresql://u:{}@h/d", "redis://:{}@h", "http://u:{}@proxy.example:3128"):
        line = redact_secrets(f"cannot use {shape.format(password)} now")
        assert {one for one in windows(password) if one in line} == set()
        assert line.startswith("cannot use ")


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL", "NANGO_SECRET_KEY"])
@pytest.mark.parametrize(
    "value", ["postgresql://u:Zq7Xv9Kw@h/d", "Zq7Xv9Kw", "Zq7X/v9Kw=", "Zq7Xv9Kw\n" * 200]
)
def test_a_secret_that_was_given_for_its_file_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"{name}_FILE", value)
    with pytest.raises(MirrorError, match=f"^{name}_FILE: cannot read") as told:
        load_settings()
    said = everything_said(told.value)
    assert not any(piece in said for piece in ("Zq7X", "v9Kw"))
