"""Many open tabs: they cost the database no more than one, whatever page they show."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from sqlalchemy import event, text

from models.api_token import Scope
from models.audit import Via
from models.operation import Action
from sandbox.servers import Servers
from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from tests.support.page import PageClient, sign_in
from tests.support.web import WebApplication, open_application
from worker.core.settings import load_settings
from worker.operations.request import OperationRequest, ResumeParameters
from worker.operations.submit import submit
from worker.page.page import REFRESH_SECONDS, PageRoute
from worker.page.render import render
from worker.page.routes import PAGES
from worker.page.session import SessionKeeper, digest_secret
from worker.store.service.audit import Actor
from worker.web.fleet_cache import MIN_FRESH_SECONDS
from worker.web.verify import CACHE_SECONDS

ROOT = Path(__file__).parents[2]
NUMBER = 2000
TABS = 20
CONNECTION = 7
FRESH_SECONDS = min(MIN_FRESH_SECONDS, CACHE_SECONDS)
"""What is read is used for at least as long."""
ONCE = ("/bulk", "/held", "/resync", "/pause", "/resume", "/bundle", ".csv")
"""Ends of the paths of pages that are not asked for again."""
LIVE = [
    one
    for one in PAGES
    if one.method == "GET" and one.access is Scope.READ and not one.path.endswith(ONCE)
]
QUERIES = {"/search": "q=1"}
"""What a page must be asked for. Several things are named 1, so that a list of them is shown."""


@pytest.fixture(scope="module")
def web(cluster: DatabaseFactory, servers: Servers) -> Iterator[WebApplication]:
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url, redis_url=servers.redis_url))
    fill_fleet(opened.database, NUMBER)
    with opened.database.open_transaction() as db:  # none falls due during the tests
        db.execute(text("update sync.connections set due_at = due_at + interval '1 day'"))
    yield opened
    opened.close()
    cluster.drop(url)


@pytest.fixture(scope="module")
def tabs(web: WebApplication) -> list[PageClient]:
    """Tabs with a sign-in each."""
    first = sign_in(web, Scope.READ)
    others = [sign_in(web, Scope.READ) for _ in range(2)]
    token = web.make_token(Scope.READ)
    while len(others) < TABS - 1:
        one = PageClient(web.client)
        one.sign_in(token)
        others.append(one)
    return [first, *others]


@pytest.fixture(scope="module")
def examples(web: WebApplication) -> dict[str, int]:
    """A value for each part of a path."""
    with web.database.open_transaction() as db:
        run_id = db.execute(text("select max(id) from sync.runs")).scalar_one()
        request = OperationRequest(Action.RESUME, [CONNECTION], ResumeParameters())
        asked = submit(db, Actor("olivia", Via.PAGE), request)
    return {"connection_id": CONNECTION, "run_id": run_id, "operation_id": asked.operation.id}


def wait_within_a_minute(page: PageRoute) -> None:
    """Let the whole test lie in one minute where a page shows the last sixty of them."""
    second = time.time() % 60
    if page.path == "/budget" and second > 40:
        time.sleep(60 - second)


@contextmanager
def count_statements(web: WebApplication) -> Iterator[list[str]]:
    """Statements of all threads."""
    seen: list[str] = []

    def note(*args: object) -> None:
        seen.append(str(args[2]))

    engine = web.database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def count_renders() -> Iterator[list[str]]:
    """Calls that render a page, in threads that begin from now on."""
    seen: list[str] = []

    def note(frame: FrameType, happened: str, _: object) -> None:
        if happened == "call" and frame.f_code is render.__code__:
            seen.append(frame.f_locals["template"])

    threading.setprofile(note)
    try:
        yield seen
    finally:
        threading.setprofile(None)


def grow_old(web: WebApplication, page: PageRoute) -> None:
    """Let what is kept in memory be too old to be used; for one page also who is signed in."""
    revive_service(web.database)
    if page.path == "/":
        time.sleep(REFRESH_SECONDS)
    web.context.forget(CONNECTION)


def count(statements: list[str], page: PageRoute) -> int:
    """How many there are; without those about who is signed in, unless that was too old, too."""
    if page.path == "/":
        # When tokens were used is written once a minute, by a statement with a time limit.
        return len(statements) - 2 * sum("update sync.api_tokens" in one for one in statements)
    aside = ("page_sessions", "api_tokens", "set local statement_timeout")
    return sum(all(words not in one for words in aside) for one in statements)


@pytest.mark.parametrize("page", LIVE, ids=lambda it: it.path)
def test_refreshes_of_many_tabs_cost_no_more_statements_than_one(
    web: WebApplication, tabs: list[PageClient], examples: dict[str, int], page: PageRoute
) -> None:
    path, query = page.path.format(**examples), QUERIES.get(page.path)
    wait_within_a_minute(page)
    grow_old(web, page)  # a look at the fleet may be of the minute before
    tags = [one.refresh(path, query=query).headers["hx-ptag"] for one in tabs]
    assert len(set(tags)) == 1
    (tag, *_) = tags
    grow_old(web, page)
    with count_statements(web) as of_one:
        assert tabs[0].refresh(path, tag, query=query).status == 304
    for one in tabs:  # sessions that were not in use for ten seconds would be read one by one
        one.refresh(path, tag, query=query)
    grow_old(web, page)
    with count_statements(web) as of_all, count_renders() as renders:
        begun = time.monotonic()
        replies = [one.refresh(path, tag, query=query) for one in tabs]
        lifetimes = 1 + int((time.monotonic() - begun) / FRESH_SECONDS)
    assert {one.status for one in replies} == {304}
    assert renders == []
    assert 0 < count(of_all, page) <= lifetimes * count(of_one, page), of_all
    for reply in replies:
        size = sum(len(name) + len(value) + 4 for name, value in reply.headers.items())
        assert size + len(reply.body) <= 1000


@pytest.mark.parametrize("page", LIVE, ids=lambda it: it.path)
def test_the_first_page_is_small(
    web: WebApplication, tabs: list[PageClient], examples: dict[str, int], page: PageRoute
) -> None:
    revive_service(web.database)
    reply = tabs[0].get(page.path.format(**examples), query=QUERIES.get(page.path))
    assert reply.status == 200
    assert len(reply.body) <= 120_000


def test_a_page_is_rendered_once_for_each_who_sees_it_first(
    web: WebApplication, tabs: list[PageClient]
) -> None:
    with count_renders() as renders:
        assert tabs[0].refresh("/budget").status == 200
    assert renders == ["budget.html"]


def test_sessions_that_are_asked_for_at_once_are_read_at_once(
    web: WebApplication, tabs: list[PageClient]
) -> None:
    keeper, all_there = SessionKeeper(web.database, web.context.verifier), threading.Barrier(TABS)
    secrets = [one.cookie for one in tabs]
    assert all(keeper.find(one) for one in secrets)
    time.sleep(CACHE_SECONDS)

    def ask(secret: str | None) -> bool:
        all_there.wait(timeout=10)
        return keeper.find(secret) is not None

    with count_statements(web) as statements, ThreadPoolExecutor(TABS) as pool:
        assert all(pool.map(ask, secrets))
    assert len([one for one in statements if "page_sessions" in one]) == 1
    assert len([one for one in statements if "api_tokens" in one]) <= 1


def test_a_session_that_ends_is_not_kept_by_the_others(
    web: WebApplication, tabs: list[PageClient]
) -> None:
    keeper = SessionKeeper(web.database, web.context.verifier)
    gone = PageClient(web.client)
    gone.sign_in(web.make_token(Scope.READ))
    assert gone.cookie is not None
    assert keeper.find(gone.cookie)
    assert keeper.find(tabs[0].cookie)
    with web.database.open_transaction() as db:
        ended = "update sync.page_sessions set ended_at = now() where digest = :digest"
        db.execute(text(ended), {"digest": digest_secret(gone.cookie)})
    time.sleep(CACHE_SECONDS)
    assert keeper.find(tabs[0].cookie)
    assert keeper.find(gone.cookie) is None


def test_refreshes_at_different_moments_share_a_look_at_the_fleet(
    web: WebApplication, tabs: list[PageClient]
) -> None:
    """Twenty tabs, spread over most of the time from refresh to refresh: one look."""
    spread = REFRESH_SECONDS - 1.0
    revive_service(web.database)
    web.context.forget(CONNECTION)
    with count_statements(web) as of_one:
        assert tabs[0].refresh("/").status == 200
    web.context.forget(CONNECTION)
    with count_statements(web) as of_all:
        begun = time.monotonic()
        for number, one in enumerate(tabs):
            time.sleep(max(0.0, begun + spread * number / TABS - time.monotonic()))
            assert one.refresh("/").status == 200
        lifetimes = 1 + int((time.monotonic() - begun) / (REFRESH_SECONDS - 0.5))
    assert 0 < count_looks(of_all) <= lifetimes * count_looks(of_one)


def count_looks(statements: list[str]) -> int:
    return sum("sync.connections" in one for one in statements)


def test_the_script_of_the_page_refreshes_as_often_as_the_server_expects() -> None:
    script = (ROOT / "worker" / "page" / "static" / "page.js").read_text(encoding="utf-8")
    assert f"const PERIOD = {REFRESH_SECONDS * 1000:.0f};" in script
