"""Who may see and do what on the page: decided by the table of routes, by session and origin."""

import re
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from models.api_token import Scope
from models.page_session import page_sessions, sign_in_links
from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet
from tests.support.page import HTML, SAME_SITE, PageClient, get_cookie, sign_in
from tests.support.web import WebApplication, open_application
from worker.core.settings import load_settings
from worker.page.page import PAGE_POLICY, PageExemption, PageRoute
from worker.page.routes import PAGES
from worker.page.session import COOKIE, PLAIN_COOKIE, digest_secret
from worker.store.service.sign_ins import LinkedToken, store_link
from worker.store.service.tokens import revoke_token
from worker.web.token import digest_token, parse_token_id
from worker.web.verify import CACHE_SECONDS, MAX_FAILURES

ALL_PAGES = pytest.mark.parametrize("page", PAGES, ids=lambda it: f"{it.method} {it.path}")
FORMS = [one for one in PAGES if one.method == "POST"]
BOOTSTRAP = "a-token-of-the-first-hour-0123456789"


@pytest.fixture(scope="module")
def web(cluster: DatabaseFactory) -> Iterator[WebApplication]:
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url, web_token=BOOTSTRAP))
    fill_fleet(opened.database, 3)
    yield opened
    opened.close()
    cluster.drop(url)


@pytest.fixture(autouse=True)
def _fresh_limits(web: WebApplication) -> None:
    web.context.failures._failures.clear()


@pytest.fixture(scope="module")
def browsers(web: WebApplication) -> dict[str, PageClient]:
    """A browser for each kind of session, usable or not."""
    made = {
        "none": PageClient(web.client),
        "forged": PageClient(web.client, "A" * 43),
        "read": sign_in(web, Scope.READ),
        "operate": sign_in(web, Scope.READ, Scope.OPERATE),
        "expired": sign_in(web, Scope.READ, Scope.OPERATE),
        "signed out": sign_in(web, Scope.READ, Scope.OPERATE),
    }
    expired = made["expired"].cookie
    assert expired is not None
    with web.database.open_transaction() as db:
        mine = page_sessions.c.digest == digest_secret(expired)
        db.execute(page_sessions.update().where(mine).values(expires_at=text("now()")))
    cookie = made["signed out"].cookie
    assert made["signed out"].post("/sign-out").status == 303
    made["signed out"].cookie = cookie
    return made


def call(browser: PageClient, page: PageRoute) -> int:
    path = re.sub(r"\{\w+\}", "999999", page.path)
    return (browser.get(path) if page.method == "GET" else browser.post(path)).status


@ALL_PAGES
@pytest.mark.parametrize("kind", ["none", "forged", "expired", "signed out"])
def test_without_a_session_a_page_leads_to_the_form_and_a_form_does_nothing(
    browsers: dict[str, PageClient], page: PageRoute, kind: str
) -> None:
    status = call(browsers[kind], page)
    if page.access is PageExemption.OPEN:
        assert status != 500
    else:
        assert status == (303 if page.method == "GET" else 401)


@ALL_PAGES
@pytest.mark.parametrize("kind", ["read", "operate"])
def test_a_session_may_do_what_its_token_may(
    web: WebApplication, browsers: dict[str, PageClient], page: PageRoute, kind: str
) -> None:
    if page.path == "/sign-out":
        return  # it would end the session of the other tests
    status = call(browsers[kind], page)
    assert status != 500
    if page.access is not PageExemption.OPEN:
        is_allowed = kind == "operate" or page.access is Scope.READ
        assert (status == 403) == (not is_allowed)
        assert status != 401
        place = web.client.replies[-1].headers.get("location", "")
        assert not place.startswith("/sign-in")


@pytest.mark.parametrize("page", FORMS, ids=lambda it: it.path)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1"},
    ],
    ids=str,
)
def test_a_form_of_another_site_is_refused(
    browsers: dict[str, PageClient], page: PageRoute, headers: dict[str, str]
) -> None:
    path = re.sub(r"\{\w+\}", "1", page.path)
    assert browsers["operate"].post(path, headers=headers).status == 403


def test_an_old_browser_names_its_origin_instead(web: WebApplication) -> None:
    page = PageClient(web.client)
    own = {"origin": "http://127.0.0.1"}
    assert page.post("/sign-in", {"token": BOOTSTRAP}, headers=own).status == 303


@ALL_PAGES
def test_every_answer_has_the_strict_policy(
    browsers: dict[str, PageClient], page: PageRoute
) -> None:
    path = re.sub(r"\{\w+\}", "999999", page.path)
    browser = browsers["none"]
    reply = browser.get(path) if page.method == "GET" else browser.post(path)
    assert reply.headers["content-security-policy"] == PAGE_POLICY.decode()
    assert reply.headers["cache-control"] == "no-store"


def test_signing_in_stores_a_digest_only_and_sets_a_strict_cookie(web: WebApplication) -> None:
    page = PageClient(web.client)
    reply = page.sign_in(BOOTSTRAP, "/?attention=true")
    assert (reply.status, reply.headers["location"]) == (303, "/?attention=true")
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= {
        one.strip() for one in cookie.split(";")
    }
    assert page.cookie is not None
    with web.database.open_transaction() as db:
        stored = [bytes(one) for one in db.execute(page_sessions.select()).scalars()]
    assert digest_secret(page.cookie) in stored
    assert page.cookie.encode() not in stored
    assert page.get("/").status == 200


def test_over_plain_http_to_another_name_the_cookie_is_not_secure(
    web: WebApplication, cluster: DatabaseFactory
) -> None:
    url = web.settings.database_url
    assert url is not None
    other = open_application(
        load_settings(
            database_url=url.get_secret_value(), web_token=BOOTSTRAP, web_names="mirror.example"
        )
    )
    try:
        reply = other.client.request(
            "POST",
            "/sign-in",
            body=f"token={BOOTSTRAP}".encode(),
            headers={**SAME_SITE, "content-type": "application/x-www-form-urlencoded"},
            host="mirror.example:8420",
        )
        secret = get_cookie(reply)
        assert reply.headers["set-cookie"].startswith(f"{PLAIN_COOKIE}=")
        assert "Secure" not in reply.headers["set-cookie"]
        sent = {**HTML, "cookie": f"other=1; {PLAIN_COOKIE}={secret}"}
        assert other.client.get("/", headers=sent, host="mirror.example:8420").status == 200
    finally:
        other.close()


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "evil",
        "/\t/evil.example",
        "/ x",
    ],
)
def test_signing_in_leads_to_pages_of_ours_only(web: WebApplication, place: str) -> None:
    assert PageClient(web.client).sign_in(BOOTSTRAP, place).headers["location"] == "/"
    shown = PageClient(web.client).get("/sign-in", query={"next": place})
    assert 'name="next" value="/"' in shown.body.decode()


def test_the_place_that_was_asked_for_comes_after_signing_in(web: WebApplication) -> None:
    page = PageClient(web.client)
    sent = page.get("/", query={"attention": "true"})
    assert sent.headers["location"] == "/sign-in?next=%2F%3Fattention%3Dtrue"
    shown = page.get("/sign-in", query="next=%2F%3Fattention%3Dtrue").body.decode()
    assert 'name="next" value="/?attention=true"' in shown


def test_wrong_tokens_are_counted_with_those_of_the_api(web: WebApplication) -> None:
    page = PageClient(web.client)
    statuses = [page.sign_in(f"wrong-{number}").status for number in range(MAX_FAILURES + 1)]
    assert statuses == [401] * MAX_FAILURES + [429]
    assert web.client.get("/api/fleet", token="wrong").status == 429


def test_a_token_without_read_cannot_sign_in(web: WebApplication) -> None:
    token = web.make_token(Scope.METRICS)
    reply = PageClient(web.client).sign_in(token)
    assert (reply.status, b"lacks the scope" in reply.body) == (403, True)


def test_a_revoked_token_ends_its_sessions_within_seconds(web: WebApplication) -> None:
    token = web.make_token(Scope.READ, name="to-revoke")
    page = PageClient(web.client)
    page.sign_in(token)
    assert page.get("/").status == 200
    with web.database.open_transaction() as db:
        revoke_token(db, "to-revoke")
    time.sleep(CACHE_SECONDS + 0.1)
    assert page.get("/").status == 303
    asked = page.refresh("/")
    assert (asked.status, asked.headers["hx-refresh"]) == (401, "true")


def test_an_expired_token_ends_its_sessions(web: WebApplication) -> None:
    token = web.make_token(Scope.READ, lifetime=timedelta(seconds=3))
    page = PageClient(web.client)
    assert page.sign_in(token).status == 303
    time.sleep(3 + CACHE_SECONDS)
    assert page.get("/").status == 303


def make_link(web: WebApplication, code: str) -> None:
    token = web.make_token(Scope.READ)
    number = parse_token_id(token)
    assert number is not None
    with web.database.open_transaction() as db:
        store_link(db, digest_secret(code), LinkedToken(number, digest_token(token)))


def test_a_link_signs_in_once(web: WebApplication) -> None:
    make_link(web, "once")
    first = PageClient(web.client).get("/sign-in/link", query={"code": "once"})
    assert (first.status, first.headers["location"]) == (303, "/")
    assert PageClient(web.client, get_cookie(first)).get("/").status == 200
    second = PageClient(web.client).get("/sign-in/link", query={"code": "once"})
    assert (second.status, "set-cookie" in second.headers) == (401, False)
    assert b"was used before" in second.body
    assert b'name="token"' in second.body


def test_a_link_that_another_site_shows_signs_in_too(web: WebApplication) -> None:
    make_link(web, "elsewhere")
    cross = {"sec-fetch-site": "cross-site"}
    reply = PageClient(web.client).get("/sign-in/link", query={"code": "elsewhere"}, headers=cross)
    assert (reply.status, get_cookie(reply) is not None) == (200, True)
    assert b'http-equiv="refresh" content="0;url=/"' in reply.body


def test_a_link_of_another_site_to_a_page_is_asked_for_once_more(web: WebApplication) -> None:
    """A strict cookie does not come with the first request."""
    reply = PageClient(web.client).get(
        "/", query={"text": '"><script>'}, headers={"sec-fetch-site": "cross-site"}
    )
    assert reply.status == 200
    assert b'content="0;url=/?text=%22%3E%3Cscript%3E"' in reply.body


def test_a_link_expires(web: WebApplication) -> None:
    make_link(web, "late")
    with web.database.open_transaction() as db:
        mine = sign_in_links.c.digest == digest_secret("late")
        db.execute(sign_in_links.update().where(mine).values(expires_at=text("now()")))
    reply = PageClient(web.client).get("/sign-in/link", query={"code": "late"})
    assert reply.status == 401


def test_a_browser_gets_words_and_a_program_a_problem(web: WebApplication) -> None:
    page = PageClient(web.client)
    missing = page.get("/no-such-page")
    assert missing.status == 404
    assert missing.headers["content-type"].startswith("text/html")
    assert missing.headers["content-security-policy"] == PAGE_POLICY.decode()
    assert web.client.get("/no-such-page").headers["content-type"] == "application/problem+json"
    problem = web.client.get("/api/no-such-route", headers=HTML)
    assert problem.headers["content-type"] == "application/problem+json"


def test_a_query_that_is_wrong_is_refused_in_words(browsers: dict[str, PageClient]) -> None:
    reply = browsers["read"].get("/", query={"sort": "<b>", "limit": "0"})
    assert reply.status == 422
    assert "must be one of: " in reply.body.decode()
    assert "<b>" not in reply.body.decode()
