"""Every foreign failure becomes one of our errors, with a sentence that names the remedy."""

import inspect
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
from psycopg import errors as postgres
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from worker.conditions.reasons import NOT_LICENSED
from worker.core.errors import (
    ConfigurationError,
    ConnectionBroken,
    CursorExpired,
    MalformedResponse,
    MirrorError,
    NotLicensed,
    ResourceRefused,
    RetryLater,
    RetryNow,
    ServerUnavailable,
    StorageFull,
)
from worker.graph.errors import classify_graph_response, list_error_codes
from worker.nango.errors import (
    classify_nango_response,
    classify_transport_error,
    is_from_graph,
    to_retry_later,
)
from worker.nango.response import ApiResponse
from worker.store.engine import Database
from worker.store.errors import _translate_wrapped

NOW = 1_792_567_680.0


def answer(status: int, content: Any = b"", **headers: str) -> ApiResponse:
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return ApiResponse(
        status, body, {name.replace("_", "-"): text for name, text in headers.items()}
    )


def ours(code: str, message: str = "", **extra: Any) -> dict[str, Any]:
    """An error body as Nango writes it."""
    return {"error": {"code": code, "message": message} | extra}


def theirs(code: str, *inner: str, name: str = "innerError") -> dict[str, Any]:
    """An error body as Graph writes it, with codes nested inside."""
    error: dict[str, Any] = {"code": code, "message": "secret message"}
    place = error
    for one in inner:
        place[name] = {"code": one, "request-id": "x"}
        place = place[name]
    return {"error": error}


# ---- Nango's own errors

FAILED_REFRESH = 'Failed to get connection credentials: \'{"tenant": "secret"}\''
NANGO_TROUBLES: list[tuple[int, Any, type[MirrorError], str]] = [
    (401, ours("missing_auth_header", payload={}), ConfigurationError, "NANGO_SECRET_KEY"),
    (401, ours("malformed_auth_header", payload={}), ConfigurationError, "NANGO_SECRET_KEY"),
    (401, ours("invalid_secret_key_format", payload={}), ConfigurationError, "NANGO_SECRET_KEY"),
    (401, ours("unknown_account", payload={}), ConfigurationError, "NANGO_SECRET_KEY"),
    (401, b"", ConfigurationError, "NANGO_SECRET_KEY"),
    (403, ours("forbidden", "Insufficient scope."), ConfigurationError, "environment:proxy"),
    (402, ours("plan_limit"), ConfigurationError, "plan"),
    (404, ours("unknown_provider_config"), ConnectionBroken, "integration"),
    (400, ours("server_error", "Failed to get connection"), ConnectionBroken, "connection"),
    (404, ours("unknown_connection"), ConnectionBroken, "connection"),
    (400, ours("server_error", FAILED_REFRESH), ConnectionBroken, "reconnect"),
    (424, ours("connection_refresh_backoff"), ConnectionBroken, "reconnect"),
    (
        424,
        ours("server_error", "The refresh limit has been reached for this connection."),
        ConnectionBroken,
        "reconnect",
    ),
    (424, ours("invalid_credentials"), ConnectionBroken, "reconnect"),
    (
        400,
        ours("invalid_headers", errors=[{"path": ["retries"]}]),
        ConfigurationError,
        "invalid_headers",
    ),
    (400, ours("invalid_query_params", errors=[]), ConfigurationError, "invalid_query_params"),
    (429, {"error": {"code": "too_many_request", "method": "GET"}}, RetryNow, "rate limit"),
    (429, b"", RetryNow, "rate limit"),
    (429, b"<html>slow down</html>", RetryNow, "rate limit"),
    (400, ours("base_url_override_not_allowed"), RetryNow, "Graph's host"),
    (
        500,
        {"message": "connect", "code": "ECONNREFUSED", "method": "get"},
        RetryNow,
        "ECONNREFUSED",
    ),
    (500, ours("generic_error_support"), RetryNow, "500"),
    (500, b"", RetryNow, "500"),
    (502, b"<html>bad gateway</html>", RetryNow, "502"),
    (503, b"", RetryNow, "503"),
    (504, b"", RetryNow, "504"),
    (404, b"<html>not here</html>", ConfigurationError, "NANGO_HOST"),
    (302, b"", ConfigurationError, "NANGO_HOST"),
]


@pytest.mark.parametrize(("status", "content", "kind", "remedy"), NANGO_TROUBLES)
def test_an_error_of_nango_is_ours_and_names_the_remedy(
    status: int, content: Any, kind: type[MirrorError], remedy: str
) -> None:
    error = classify_nango_response(answer(status, content), NOW)
    assert isinstance(error, kind)
    assert remedy in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "code",
    [
        "base_url_override_disabled",
        "unsupported_provider",
        "unknown_provider",
        "missing_api_url",
        "something_quite_new",
    ],
)
def test_a_refusal_by_nango_itself_is_never_taken_for_graphs(code: str) -> None:
    """As Graph's, a 400 in a delta round would throw the cursor away."""
    error = classify_nango_response(answer(400, ours(code, "x")), NOW)
    assert type(error) is ConnectionBroken


@pytest.mark.parametrize("body", [b"", b"<html></html>"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, RetryNow),
        (413, MalformedResponse),
        (414, MalformedResponse),
        (425, RetryNow),
        (431, MalformedResponse),
        (409, RetryNow),
        (449, RetryNow),
    ],
)
def test_a_gateways_answer_to_one_request_does_not_stop_everything(
    status: int, kind: type[MirrorError], body: bytes
) -> None:
    """Too slow or too long says something about this request, and nothing about the settings."""
    assert type(classify_nango_response(answer(status, body), NOW)) is kind


@pytest.mark.parametrize(
    "body", [b'{"error":{"code":"\xff"}}', b'{"error":' + b"[" * 100_000, b"\xff\xfe", b"{"]
)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_odd_body_is_still_judged(status: int, body: bytes) -> None:
    error = classify_nango_response(answer(status, body), NOW)
    assert isinstance(error, MirrorError)


@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b'"x"', b'{"error": 7}', b'{"error": []}'])
def test_a_body_of_an_odd_shape_is_still_judged(body: bytes) -> None:
    assert isinstance(classify_nango_response(answer(500, body), NOW), RetryNow)
    assert list_error_codes(answer(500, body)) == []


@pytest.mark.parametrize(
    ("headers", "after"),
    [
        ({"retry_after": "56"}, 56.0),
        ({"retry_after": "0"}, 1.0),
        ({}, 1.0),
        ({"retry_after": "x"}, 1.0),
    ],
)
def test_nangos_rate_limit_waits_at_least_a_second(headers: dict[str, str], after: float) -> None:
    error = classify_nango_response(answer(429, ours("too_many_request"), **headers), NOW)
    assert error is not None
    assert error.after == after


@pytest.mark.parametrize(
    "response",
    [
        answer(200, b"<!doctype html><html></html>", content_type="text/html; charset=UTF-8"),
        answer(200, b"<html></html>"),
        answer(200, b"x", content_type="TEXT/HTML".lower()),
    ],
)
def test_a_web_page_is_a_wrong_address_unless_nango_answered_there_before(
    response: ApiResponse,
) -> None:
    error = classify_nango_response(response, NOW)
    assert isinstance(error, RetryNow)
    ended = to_retry_later(error, 1.0)
    assert isinstance(ended, ConfigurationError)
    assert "NANGO_HOST" in str(ended)
    assert type(to_retry_later(error, 1.0, has_worked=True)) is RetryLater


# ---- whose answer


@pytest.mark.parametrize(
    "response",
    [
        answer(404, b"", request_id="x"),
        answer(500, b"<html></html>", x_ms_ags_diagnostic="{}"),
        answer(400, ours("server_error"), client_request_id="x"),
        answer(429, theirs("TooManyRequests")),
        answer(403, theirs("Authorization_RequestDenied")),
        answer(400, theirs("unknown", "x")),
        answer(400, theirs("unknown", "x", name="innererror")),
        answer(401, theirs("InvalidAuthenticationToken")),
        answer(503, theirs("serviceNotAvailable")),
    ],
)
def test_graphs_own_answers_are_left_to_graphs_verdict(response: ApiResponse) -> None:
    assert is_from_graph(response)
    assert classify_nango_response(response, NOW) is None


def test_a_success_is_no_trouble() -> None:
    assert classify_nango_response(answer(200, {"value": []}), NOW) is None
    assert classify_nango_response(answer(204), NOW) is None
    assert classify_graph_response(answer(200, {"value": []}), NOW) is None


# ---- Graph's errors


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (410, b""),
        (410, b"<html></html>"),
        (410, theirs("resyncRequired")),
        (410, theirs("syncStateNotFound")),
        (400, theirs("syncStateNotFound")),
        (400, theirs("SyncStateNotFound")),
        (404, theirs("SYNCSTATENOTFOUND")),
        (400, theirs("BadRequest", "SyncStateNotFound")),
        (400, theirs("BadRequest", "x", "syncStateNotFound")),
        (400, theirs("BadRequest", "x", "syncStateNotFound", name="innererror")),
        (400, theirs("syncStateInvalid")),
        (400, theirs("resyncChangesApplyDifferences")),
        (400, theirs("resyncChangesUploadDifferences")),
        (400, theirs("Directory_ExpiredPageToken")),
        (400, theirs("directory_expiredpagetoken")),
    ],
)
def test_a_lost_cursor_begins_the_walk_again(status: int, content: Any) -> None:
    assert type(classify_graph_response(answer(status, content), NOW)) is CursorExpired


@pytest.mark.parametrize(
    "status", [408, 409, 421, 423, 425, 429, 449, 500, 502, 503, 504, 507, 599]
)
def test_a_busy_graph_is_asked_later(status: int) -> None:
    error = classify_graph_response(answer(status, theirs("x"), retry_after="41"), NOW)
    assert type(error) is RetryLater
    assert error.after == 41.0
    unsaid = classify_graph_response(answer(status), NOW)
    assert unsaid is not None
    assert unsaid.after is not None
    assert unsaid.after > 0


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "InvalidAuthenticationToken"),
        (401, ""),
        (400, "InvalidAuthenticationToken"),
        (403, "Authentication_ExpiredToken"),
    ],
)
def test_a_rejected_token_breaks_the_connection(status: int, code: str) -> None:
    error = classify_graph_response(answer(status, theirs(code)), NOW)
    assert type(error) is ConnectionBroken
    assert "reconnect" in str(error)


def test_a_403_names_the_permission() -> None:
    response = answer(403, theirs("Authorization_RequestDenied"))
    error = classify_graph_response(response, NOW, "User.Read.All")
    assert isinstance(error, ResourceRefused)
    assert "User.Read.All" in str(error)
    assert "Authorization_RequestDenied" in str(error)
    assert (error.status, error.code) == (403, "Authorization_RequestDenied")


WITHIN = (
    '{"errorCode":"AadPremiumLicenseRequired","message":"The tenant needs an AAD Premium 2 license.'
    '","instanceAnnotations":[]}'
)
LICENCE_BODIES = [
    (
        400,
        {
            "code": "AadPremiumLicenseRequired",
            "message": "The tenant needs to have Microsoft Entra ID P2 or Microsoft Entra ID "
            "Governance license.",
            "innerError": {"date": "2026-01-08T09:20:33", "request-id": "x"},
        },
        "AadPremiumLicenseRequired",
    ),
    (
        403,
        {
            "code": "Authentication_RequestFromNonPremiumTenantOrB2CTenant",
            "message": "Neither tenant is B2C or tenant doesn't have premium license",
            "innerError": {"date": "2021-09-02T14:32:39", "request-id": "x"},
        },
        "Authentication_RequestFromNonPremiumTenantOrB2CTenant",
    ),
    (400, {"code": "UnknownError", "message": WITHIN}, "AadPremiumLicenseRequired"),
    (
        400,
        {"code": "BadRequest", "innerError": {"code": "aadpremiumlicenserequired"}},
        "aadpremiumlicenserequired",
    ),
]
"""Bodies as they were seen, two more of the same kind, and the code that tells."""


@pytest.mark.parametrize(("status", "error", "code"), LICENCE_BODIES)
def test_a_licence_that_is_lacking_is_no_permission_that_is_missing(
    status: int, error: dict[str, Any], code: str
) -> None:
    found = classify_graph_response(answer(status, {"error": error}), NOW, "User.Read.All")
    assert isinstance(found, NotLicensed)
    assert str(found) == f"Graph answers {status} {code}; {NOT_LICENSED}"
    assert (found.status, found.code) == (status, code)


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RetryLater), (503, RetryLater), (410, CursorExpired)]
)
def test_what_passes_is_asked_again_whatever_it_says_of_licences(
    status: int, kind: type[MirrorError]
) -> None:
    response = answer(status, theirs("AadPremiumLicenseRequired"))
    assert type(classify_graph_response(response, NOW)) is kind


SCOPE_MESSAGE = (
    '{"errorCode":"PermissionScopeNotGranted","message":"Authorization failed due to missing '
    "permission scope PrivilegedEligibilitySchedule.Read.AzureADGroup,"
    'PrivilegedAccess.Read.AzureADGroup.","instanceAnnotations":[]}'
)
"""A message as it was seen."""


def test_the_code_within_a_message_is_named_with_the_permission() -> None:
    response = answer(403, {"error": {"code": "UnknownError", "message": SCOPE_MESSAGE}})
    assert list_error_codes(response) == ["UnknownError", "PermissionScopeNotGranted"]
    error = classify_graph_response(response, NOW, "RoleManagement.Read.Directory")
    assert isinstance(error, ResourceRefused)
    assert not isinstance(error, NotLicensed)
    assert error.code == "PermissionScopeNotGranted"
    assert str(error).startswith("Graph answers 403 PermissionScopeNotGranted; grant the ")
    assert "RoleManagement.Read.Directory" in str(error)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "errorCode",
        "{",
        '{"errorCode"',
        "[]",
        '["errorCode"]',
        '{"errorCode":7}',
        '{"errorCode":"a secret sentence"}',
        '{"errorCode":"' + "x" * 200 + '"}',
        '{"errorCode":{"errorCode":"x"}}',
        '{"a":' * 3000,
        " " * 5000 + '{"errorCode":"x"}',
        '{"errorCode":"\\ud800"}',
        7,
        None,
    ],
)
def test_a_message_that_is_no_document_with_a_code_has_none(message: object) -> None:
    response = answer(403, {"error": {"code": "UnknownError", "message": message}})
    assert list_error_codes(response) == ["UnknownError"]
    assert "Graph answers 403 UnknownError" in str(classify_graph_response(response, NOW))


@pytest.mark.parametrize("status", [400, 402, 404, 405, 406, 501])
def test_what_a_tenant_does_not_offer_is_refused(status: int) -> None:
    error = classify_graph_response(
        answer(status, theirs("Request_BadRequest")), NOW, "User.Read.All"
    )
    assert isinstance(error, ResourceRefused)
    assert error.status == status
    assert "permission" not in str(error)


def test_a_request_that_was_not_run_is_asked_later() -> None:
    assert type(classify_graph_response(answer(424), NOW)) is RetryLater


@pytest.mark.parametrize("status", [301, 302, 304, 307])
def test_a_redirection_is_not_an_answer(status: int) -> None:
    assert type(classify_graph_response(answer(status), NOW)) is MalformedResponse


def test_the_message_of_graph_is_never_repeated() -> None:
    for status in (400, 401, 403, 404, 410, 429, 500, 501):
        assert "secret" not in str(
            classify_graph_response(answer(status, theirs("x", "y")), NOW, "p")
        )


def test_codes_are_found_at_every_depth_and_not_without_end() -> None:
    assert list_error_codes(answer(400, theirs("a", "b", "c"))) == ["a", "b", "c"]
    deep = list_error_codes(answer(400, theirs("a", *["x"] * 50)))
    assert len(deep) < 20


@pytest.mark.parametrize("code", [7, None, [], {}])
def test_a_code_that_is_no_text_is_ignored(code: object) -> None:
    response = answer(400, {"error": {"code": code, "innerError": [], "innererror": "x"}})
    assert list_error_codes(response) == []
    assert isinstance(classify_graph_response(response, NOW), ResourceRefused)


def test_an_error_body_nested_without_end_is_judged_by_its_status() -> None:
    assert type(classify_graph_response(answer(410, b"[" * 100_000), NOW)) is CursorExpired
    assert isinstance(classify_graph_response(answer(404, b"[" * 100_000), NOW), ResourceRefused)


def test_when_trying_in_place_is_over_the_stream_waits() -> None:
    error = to_retry_later(RetryNow("busy", connection="c", resource="users", after=90.0), 20.0)
    assert type(error) is RetryLater
    assert (error.after, error.connection, error.resource) == (90.0, "c", "users")
    assert to_retry_later(RetryNow("busy"), 20.0).after == 20.0


# ---- httpx


def _httpx_failures() -> list[type[Exception]]:
    found = [value for name in httpx.__all__ if inspect.isclass(value := getattr(httpx, name))]
    return [one for one in found if issubclass(one, httpx.HTTPError | httpx.InvalidURL)]


def _raised(kind: type[Exception]) -> httpx.HTTPError | httpx.InvalidURL:
    request = httpx.Request("GET", "https://nango.example/proxy/v1.0/users?$skiptoken=secret")
    made: Any
    if kind is httpx.HTTPStatusError:
        made = httpx.HTTPStatusError("x", request=request, response=httpx.Response(500))
    elif issubclass(kind, httpx.RequestError):
        made = kind("x", request=request)
    else:
        made = kind("x")
    assert isinstance(made, httpx.HTTPError | httpx.InvalidURL)
    return made


HTTPX: dict[str, type[MirrorError]] = {
    "CloseError": RetryNow,
    "ConnectError": RetryNow,
    "ConnectTimeout": RetryNow,
    "DecodingError": RetryNow,
    "HTTPError": MalformedResponse,
    "HTTPStatusError": MalformedResponse,
    "InvalidURL": ConfigurationError,
    "LocalProtocolError": RetryNow,
    "NetworkError": RetryNow,
    "PoolTimeout": RetryNow,
    "ProtocolError": RetryNow,
    "ProxyError": RetryNow,
    "ReadError": RetryNow,
    "ReadTimeout": RetryNow,
    "RemoteProtocolError": RetryNow,
    "RequestError": MalformedResponse,
    "TimeoutException": RetryNow,
    "TooManyRedirects": ConfigurationError,
    "TransportError": RetryNow,
    "UnsupportedProtocol": ConfigurationError,
    "WriteError": RetryNow,
    "WriteTimeout": RetryNow,
}


def test_every_failure_of_httpx_has_a_place() -> None:
    """A new version of httpx with a new exception fails here, and not in production."""
    assert {kind.__name__ for kind in _httpx_failures()} == HTTPX.keys()


@pytest.mark.parametrize("kind", _httpx_failures(), ids=lambda kind: kind.__name__)
def test_a_failure_of_httpx_becomes_ours(kind: type[Exception]) -> None:
    error = classify_transport_error(_raised(kind))
    assert type(error) is HTTPX[kind.__name__]
    assert "secret" not in str(error)
    if kind in (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL):
        assert "NANGO_HOST" in str(error)


# ---- Postgres

PLACE = "db.example:5432/mirror"
BY_STATE: dict[str, tuple[type[MirrorError], str]] = {
    "08": (ServerUnavailable, "cannot be reached"),
    "53100": (StorageFull, "no space left"),
    "53200": (StorageFull, "no memory left"),
    "53400": (StorageFull, "a limit of its configuration"),
    "58030": (RetryLater, "fails to read or write"),
    "XX001": (RetryLater, "damaged data"),
    "XX002": (RetryLater, "REINDEX"),
    "53": (ServerUnavailable, "cannot be reached"),
    "57P": (ServerUnavailable, "cannot be reached"),
    "28": (ConfigurationError, "refused the login"),
    "3D000": (ConfigurationError, "refused the login"),
    "42P01": (ConfigurationError, "tenant-mirror migrate"),
    "3F000": (ConfigurationError, "tenant-mirror migrate"),
    "42703": (ConfigurationError, "tenant-mirror migrate"),
    "40001": (RetryLater, "cancelled"),
    "40P01": (RetryLater, "cancelled"),
    "55P03": (RetryLater, "cancelled"),
    "57014": (RetryLater, "cancelled"),
}
IN_TROUBLE = ("25006", "25P03", "25P04", "58000")
"""A standby after a failover, a session that was cut for idling."""
STATES = {
    kind.sqlstate: kind
    for kind in vars(postgres).values()
    if inspect.isclass(kind) and issubclass(kind, psycopg.Error) and kind.sqlstate
}


def _wrapped(fault: psycopg.Error) -> DBAPIError:
    return OperationalError("select 1", {}, fault)


@pytest.mark.parametrize("state", sorted(STATES.keys() - {*IN_TROUBLE, "42501"}))
def test_a_failure_of_postgres_becomes_ours_or_passes_as_a_bug(state: str) -> None:
    error = STATES[state]("said Postgres\nDETAIL: secret")
    expected = next((told for start, told in BY_STATE.items() if state.startswith(start)), None)
    if expected is None:
        with pytest.raises(psycopg.Error) as caught:
            _translate_wrapped(_wrapped(error), PLACE)
        assert caught.value is error
        return
    translated = _translate_wrapped(_wrapped(error), PLACE)
    assert type(translated) is expected[0]
    assert expected[1] in str(translated)
    assert "secret" not in str(translated)


@pytest.mark.parametrize("start", list(BY_STATE))
def test_every_state_that_we_expect_exists(start: str) -> None:
    assert any(state.startswith(start) for state in STATES)


@pytest.mark.parametrize("state", IN_TROUBLE)
def test_a_server_in_trouble_is_away_and_not_a_bug_of_ours(state: str) -> None:
    assert type(_translate_wrapped(_wrapped(STATES[state]("x")), PLACE)) is ServerUnavailable


def test_a_missing_privilege_is_a_matter_of_configuration() -> None:
    assert isinstance(_translate_wrapped(_wrapped(STATES["42501"]("x")), PLACE), ConfigurationError)


def test_a_failure_without_a_state_is_a_lost_connection() -> None:
    error = _translate_wrapped(_wrapped(psycopg.OperationalError("connection refused")), PLACE)
    assert type(error) is ServerUnavailable
    assert PLACE in str(error)
    assert error.after


@pytest.mark.parametrize(
    "said",
    [
        'FATAL:  password authentication failed for user "u"',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u", database "d"',
        "fe_sendauth: no password supplied",
        'FATAL:  role "u" does not exist',
    ],
)
def test_a_door_that_stays_shut_is_a_wrong_setting(said: str) -> None:
    """A pooler's answer, where its SQL state says nothing."""
    error = psycopg.OperationalError(f'connection to server at "h", port 5432 failed: {said}')
    assert type(_translate_wrapped(_wrapped(error), PLACE)) is ConfigurationError


def test_a_pool_without_a_free_connection_is_away() -> None:
    assert type(_translate_wrapped(PoolTimeout("x"), PLACE)) is ServerUnavailable


def _begin(address: str) -> None:
    database = Database(address)
    try:
        with database.open_transaction():
            pass
    finally:
        database.close()


def test_a_server_that_is_not_there_is_away() -> None:
    with pytest.raises(ServerUnavailable) as caught:
        _begin("postgresql://u:secret@127.0.0.1:9/mirror")
    assert "secret" not in str(caught.value)


def test_a_database_that_does_not_exist_is_a_wrong_setting(database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        _begin(f"{database_url.rsplit('/', 1)[0]}/nowhere")


@pytest.mark.parametrize(
    "address", ["", "nonsense", "mysql://h/d", "sqlite://", "postgresql+pg8000://h/d"]
)
def test_an_address_that_is_not_postgres_is_a_wrong_setting(address: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        Database(address)
