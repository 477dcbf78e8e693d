"""One reading of a Redis URL: what is understood, and what is refused in words without secrets."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.utils.url import parse_url

from worker.core.redis.pool import build_redis_pool
from worker.core.redis.url import RedisTls, RedisUrl, parse_redis_url
from worker.nango.kv_store import RedisStore


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("redis://", RedisUrl()),
        ("redis://h", RedisUrl(host="h")),
        ("redis://h:6380/3", RedisUrl(host="h", port=6380, db=3)),
        ("redis://h?db=3", RedisUrl(host="h", db=3)),
        ("redis://[::1]:6380", RedisUrl(host="::1", port=6380)),
        ("redis://u:p%40%3A@h", RedisUrl(host="h", username="u", password="p@:")),
        ("redis://:p@h?protocol=2", RedisUrl(host="h", password="p", protocol=2)),
        ("unix:///run/v.sock?db=2", RedisUrl(host="", path="/run/v.sock", db=2)),
        (
            "unix:///v.sock?username=u&password=p%26",
            RedisUrl(host="", path="/v.sock", username="u", password="p&"),
        ),
        ("rediss://h", RedisUrl(host="h", tls=RedisTls())),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", RedisUrl(host="h", tls=RedisTls())),
        ("rediss://h?ssl_cert_reqs=optional", RedisUrl(host="h", tls=RedisTls())),
        (
            "rediss://h?ssl_cert_reqs=none",
            RedisUrl(host="h", tls=RedisTls(verifies_certificate=False)),
        ),
        (
            "rediss://h?ssl_cert_reqs=CERT_NONE",
            RedisUrl(host="h", tls=RedisTls(verifies_certificate=False)),
        ),
        (
            "rediss://h?ssl_check_hostname=False",
            RedisUrl(host="h", tls=RedisTls(verifies_hostname=False)),
        ),
        (
            "rediss://h?ssl_ca_certs=/etc/ca.pem",
            RedisUrl(host="h", tls=RedisTls(ca_certs="/etc/ca.pem")),
        ),
        (
            "rediss://h?ssl_certfile=/c&ssl_keyfile=/k&ssl_password=p",
            RedisUrl(host="h", tls=RedisTls(certfile="/c", keyfile="/k", key_password="p")),
        ),
    ],
)
def test_what_is_understood(text: str, found: RedisUrl) -> None:
    assert parse_redis_url(text) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must start with redis://"),
        ("hunter2", "must start with redis://"),
        ("http://:hunter2@h", "must start with redis://"),
        ("redis://:hun#ter2@h", "contains a '#'"),
        ("redis://:hunter2/@h", "is not a URL"),
        ("redis://:hunter2@h:port", "is not a URL"),
        ("redis://:hunter2@h:0", "port 0"),
        ("redis://:hunter2@h/name", "by its number"),
        ("redis://:hunter2@h/1?db=2", "two databases"),
        ("redis://:hunter2@h?hunter2=1", "an option that is not one of"),
        ("redis://h?db=1&db=2", "twice"),
        ("redis://:hunter2@h?ssl_cert_reqs=none", "ssl_cert_reqs, which needs rediss://"),
        ("unix:///v.sock?ssl_ca_certs=/hunter2", "ssl_ca_certs, which needs rediss://"),
        ("rediss://:hunter2@h?ssl_cert_reqs=hunter2", "ssl_cert_reqs as one of"),
        ("rediss://h?ssl_check_hostname=hunter2", "ssl_check_hostname as one of"),
        ("rediss://h?ssl_keyfile=/hunter2", "without ssl_certfile"),
        ("unix://host/v.sock", "unix:///path"),
        ("unix://", "unix:///path"),
        ("redis://a:1,b:2/0", "several hosts"),
        ("redis://:hunter2@a,b/0", "several hosts"),
        ("sentinel://:hunter2@a:26379", "Sentinels"),
        ("sentinel://a:26379;sentinel://b:26379", "Sentinels"),
        ("redis+sentinel://a,b/mymaster", "Sentinels"),
        ("redis://:hunter 2@h", "a space"),
    ],
)
def test_what_cannot_be_used_is_refused_and_not_shown(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        parse_redis_url(text)
    assert "hunter2" not in str(refused.value)


def test_secrets_are_not_in_the_text_of_a_url() -> None:
    found = parse_redis_url("rediss://:hunter2@h?ssl_certfile=/c&ssl_password=hunter2")
    assert "hunter2" not in f"{found} {found!r} {found.location}"


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
urls = st.builds(
    RedisUrl,
    host=st.sampled_from(["h", "redis.example.com", "10.0.0.1", "::1"]),
    port=st.none() | st.integers(1, 65535),
    db=st.integers(0, 99),
    username=st.none() | words,
    password=words,
    tls=st.none()
    | st.builds(
        RedisTls,
        verifies_certificate=st.just(True),
        verifies_hostname=st.booleans(),
        ca_certs=st.none() | words,
        key_password=st.none() | words,
    ),
)


@settings(max_examples=50)
@given(urls)
def test_kombu_reads_the_same_out_of_the_brokers_url(url: RedisUrl) -> None:
    read = parse_url(url.to_broker_url())
    assert (read["hostname"], read["port"]) == (url.host, url.port)
    assert (read["userid"], read["password"]) == (url.username, url.password)
    assert read["virtual_host"] == str(url.db)
    if url.tls is None:
        assert read.keys() == {*parse_url("redis://h")}
        return
    options = {
        name: value for name, value in url.tls.to_redis_options().items() if value is not None
    }
    if url.tls.verifies_hostname:
        del options["ssl_check_hostname"]  # that is redis-py's own default
    assert read["transport"] == "rediss"
    assert read["ssl"] == options | {"ssl_cert_reqs": read["ssl"]["ssl_cert_reqs"]}
    assert read["ssl"]["ssl_cert_reqs"].name == "CERT_REQUIRED"


@settings(max_examples=50)
@given(urls)
def test_our_own_spelling_is_read_back(url: RedisUrl) -> None:
    assert parse_redis_url(url.to_broker_url()) == url


def test_a_unix_socket_serves_budgets_too(tmp_path: Path) -> None:
    """Timeouts of TCP are not for it."""
    url = f"unix://{tmp_path}/valkey.sock?db=3"
    pool = build_redis_pool(url, retries=0, timeout=1, connect_timeout=1, max_connections=1)
    assert pool.make_connection().db == 3  # type: ignore[attr-defined]
    store = RedisStore(url)
    assert store.compare_and_swap("key", None, b"1", 60)
    assert store.read(["key"])[1] == [b"1"], "kept by this process, as nothing listens there"
    store.close()
