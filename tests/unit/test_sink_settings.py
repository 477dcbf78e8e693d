"""What may be set for a sink; whatever else is refused with words that help, and no secrets."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.resources import RESOURCES
from models.sink import SinkKind
from worker.core.errors import InvalidInput
from worker.core.secret import SecretStr
from worker.delivery.settings import (
    build_stored_settings,
    build_stored_sink,
    check_sink_name,
    parse_redis_stream_secrets,
    parse_redis_stream_settings,
    parse_webhook_secrets,
    parse_webhook_settings,
)
from worker.events.filter import parse_change_filter, parse_resource_filter

URL = "https://hooks.example.com/events"
OPTIONS = {"batch": 1, "timeout": 15, "allow_http": False, "allow_private": False, "direct": False}


def test_a_webhook_needs_a_url_and_has_defaults_for_the_rest() -> None:
    assert build_stored_settings(SinkKind.WEBHOOK, {"url": URL}) == {
        "url": URL,
        "batch": 1,
        "timeout": 15.0,
        "allow_http": False,
        "allow_private": False,
        "direct": False,
    }


def test_a_stream_needs_nothing() -> None:
    assert build_stored_settings(SinkKind.REDIS_STREAM, {}) == {
        "stream": "tenant-mirror:events",
        "maxlen": 1_000_000,
    }


@pytest.mark.parametrize("kind", SinkKind)
def test_what_was_stored_is_accepted_again(kind: SinkKind) -> None:
    given: dict[str, Any] = {"url": URL, "batch": 100} if kind is SinkKind.WEBHOOK else {}
    stored = build_stored_settings(kind, given)
    assert build_stored_settings(kind, stored) == stored


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "url must be given"),
        ({"url": ""}, "url must be an address such as https://"),
        ({"url": 7}, "url must be an address such as https://"),
        ({"url": "hooks.example.com"}, "url must look like"),
        ({"url": "ftp://hooks.example.com/"}, "url must look like"),
        ({"url": "https:///events"}, "url must look like"),
        ({"url": "https://user:hunter2@example.com/"}, "not contain a user or password"),
        ({"url": "https://hunter2@example.com/"}, "not contain a user or password"),
        ({"url": URL + "?code=hunter2"}, "query"),
        ({"url": URL + "#part"}, "fragment"),
        ({"url": URL + "#"}, "fragment"),
        ({"url": "https://example.com:99999/"}, "not a URL"),
        ({"url": "https://example.com:0/"}, "port"),
        ({"url": "https://exa mple.com/"}, "characters"),
        ({"url": "https://example.com\\@inside/"}, "characters"),
        ({"url": "https://example.com/\n"}, "characters"),
        ({"url": "https://[::1/"}, "not a URL"),
        ({"url": "http://example.com/"}, "allow_http"),
        ({"url": URL, "batch": 0}, "batch must be a whole number from 1 to 100"),
        ({"url": URL, "batch": 101}, "batch must be"),
        ({"url": URL, "batch": True}, "batch must be"),
        ({"url": URL, "batch": 1.5}, "batch must be"),
        ({"url": URL, "batch": "10"}, "batch must be"),
        ({"url": URL, "timeout": 0}, "timeout must be 1 to 60 seconds"),
        ({"url": URL, "timeout": 61}, "timeout must be"),
        ({"url": URL, "timeout": math.nan}, "timeout must be"),
        ({"url": URL, "timeout": "soon"}, "timeout must be"),
        ({"url": URL, "timeout": True}, "timeout must be"),
        ({"url": URL, "allow_http": "yes"}, "allow_http must be true or false"),
        ({"url": URL, "allow_private": 1}, "allow_private must be true or false"),
        ({"url": URL, "stream": "x"}, "'stream' is not a setting of a webhook"),
        ({"url": URL, "retries": 3}, r"'retries' is not a setting of a webhook \(url, batch"),
    ],
)
def test_bad_settings_of_a_webhook_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        parse_webhook_settings(given)
    assert "hunter2" not in str(refused.value)


def test_unencrypted_is_possible_where_it_is_allowed() -> None:
    made = parse_webhook_settings({"url": "http://10.0.0.7:8080/in", "allow_http": True})
    assert made.url == "http://10.0.0.7:8080/in"
    assert made.host == "10.0.0.7:8080"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"stream": ""}, "stream must be"),
        ({"stream": "two words"}, "without spaces"),
        ({"stream": "x" * 201}, "1 to 200"),
        ({"maxlen": 0}, "maxlen must be"),
        ({"maxlen": "many"}, "maxlen must be"),
        ({"maxbytes": 1024}, "maxbytes must be a whole number from 1048576"),
        ({"maxbytes": "256 MiB"}, "maxbytes must be"),
        ({"url": "redis://localhost"}, "'url' is not a setting of a redis-stream"),
    ],
)
def test_bad_settings_of_a_stream_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        parse_redis_stream_settings(given)


def test_a_stream_has_a_bound_of_bytes_from_the_start() -> None:
    """Also one of a release that did not know it; its relays refuse a setting that is new."""
    assert parse_redis_stream_settings({"stream": "x", "maxlen": 5}).maxbytes == 256 * 1024**2
    stored = build_stored_settings(SinkKind.REDIS_STREAM, {"maxbytes": 2**20})
    assert stored["maxbytes"] == 2**20
    assert parse_redis_stream_settings(stored).maxbytes == 2**20


@pytest.mark.parametrize(
    "url", ["redis://:key@localhost:6379/0", "rediss://cache.example.com", "unix:///run/v.sock"]
)
def test_the_url_of_a_redis_goes_with_the_secrets(url: str) -> None:
    settings, secrets = build_stored_sink(SinkKind.REDIS_STREAM, url, {"maxlen": 5})
    assert settings == {"stream": "tenant-mirror:events", "maxlen": 5}
    assert secrets == {"url": url}
    assert parse_redis_stream_secrets(secrets).url == SecretStr(url)


@pytest.mark.parametrize("url", ["http://hunter2", "redis://a b:hunter2@x", "hunter2"])
def test_what_is_no_redis_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"url .*maxlen must be") as refused:
        build_stored_sink(SinkKind.REDIS_STREAM, url, {"maxlen": 0})
    assert "hunter2" not in str(refused.value)
    with pytest.raises(InvalidInput, match=r"^url ") as refused:
        parse_redis_stream_secrets({"url": url})
    assert "hunter2" not in str(refused.value)


def test_a_query_goes_with_the_secrets() -> None:
    settings, secrets = build_stored_sink(SinkKind.WEBHOOK, URL + "?code=a?b", {"batch": 7})
    assert settings == build_stored_settings(SinkKind.WEBHOOK, {"url": URL, "batch": 7})
    assert secrets == {"query": "code=a?b"}
    assert build_stored_sink(SinkKind.WEBHOOK, URL, {})[1] == {}


@pytest.mark.parametrize(
    "url",
    [URL + "?code=hunter2#x", URL + "?hun ter2", "https://x:y/?a=1", "https://x/ter2@y?a", ""],
)
def test_bad_queries_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^url .*; ") as refused:
        build_stored_sink(SinkKind.WEBHOOK, url, {"batch": 0, "stream": "x"})
    assert "ter2" not in str(refused.value)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        build_stored_sink(SinkKind.WEBHOOK, "http://a/", {"batch": 0, "timeout": 99, "maxlen": 1})
    assert str(refused.value) == (
        "batch must be a whole number from 1 to 100, not 0; timeout must be 1 to 60 seconds, "
        "not 99; 'maxlen' is not a setting of a webhook (url, batch, timeout, allow_http, "
        "allow_private, direct); url must start with https://; only allow_http lets events leave "
        "unencrypted, for receivers on your own network"
    )


@pytest.mark.parametrize(
    "stored", [{"keys": "hunter2"}, {"keys": [7]}, {"keys": {}}, {"keys": [], "query": 7}]
)
def test_stored_secrets_that_cannot_be_used_are_named_and_not_shown(stored: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^(keys|query) must be") as refused:
        parse_webhook_secrets(stored)
    assert "hunter2" not in str(refused.value)


def test_secrets_of_a_later_release_are_left_alone() -> None:
    secrets = parse_webhook_secrets({"keys": ["hunter2"], "query": "hunter2", "token": "x"})
    assert secrets.keys == (SecretStr("hunter2"),)
    assert secrets.query.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(secrets)


given_values: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just([])
)


@given(given=st.dictionaries(st.sampled_from([*OPTIONS, "x"]), given_values))
@settings(max_examples=100, deadline=None)
def test_any_settings_are_stored_within_bounds_or_refused(given: dict[str, Any]) -> None:
    if "x" in given:
        with pytest.raises(InvalidInput, match="'x' is not a setting of a webhook"):
            build_stored_sink(SinkKind.WEBHOOK, URL, given)
        return
    try:
        stored, _ = build_stored_sink(SinkKind.WEBHOOK, URL, given)
    except InvalidInput:
        return
    assert given.keys() <= OPTIONS.keys()
    assert 1 <= stored["batch"] <= 100
    assert 1 <= stored["timeout"] <= 60
    assert all(isinstance(stored[name], bool) for name in OPTIONS if name.startswith("allow"))


@pytest.mark.parametrize("name", ["crm", "a", "7", "crm-2.eu_west", "x" * 63])
def test_names(name: str) -> None:
    assert check_sink_name(name) == name


@pytest.mark.parametrize("name", ["", "CRM", "-crm", "a b", "crm\n", "x" * 64, "größe", "a/b"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        check_sink_name(name)


def test_no_filter_means_everything() -> None:
    assert parse_resource_filter(()) is None
    assert parse_change_filter(()) is None


def test_filters_name_what_exists_once() -> None:
    every = [*RESOURCES, "connection"]
    assert parse_resource_filter(every) == every
    assert parse_resource_filter(["users", "users"]) == ["users"]
    assert parse_change_filter(["deleted", "broken"]) == ["deleted", "broken"]
    with pytest.raises(InvalidInput, match=r"no resource 'people'; choose from .*users"):
        parse_resource_filter(["people"])
    with pytest.raises(InvalidInput, match=r"no change 'moved'; choose from created"):
        parse_change_filter(["created", "moved"])
