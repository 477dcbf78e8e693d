"""Actions on the page of a connection: each says what will happen, and carries what was seen."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from sqlalchemy import text

from models.api_token import Scope
from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from tests.support.page import PageClient, sign_in
from tests.support.web import WebApplication, WebReply, open_application
from worker.core.settings import load_settings
from worker.operations.execute import execute
from worker.store.service.facts import claim_discovery

FORMS = ("resync", "pause", "resume", "approve", "reject")
HELD, RETIRED = 1, 3
KEY = "00000000-0000-0000-0000-{:012}"
_HOLD = """
    insert into sync.removals (connection_id, resource, key, reason, noted_at, held)
    select 1, 'users', key, 'not_seen', now(), true from unnest(cast(:keys as text[])) as key
"""
_USERS = """
    insert into directory.users (connection_id, id, display_name, first_seen_at, changed_at)
    select 1, cast('00000000-0000-0000-0000-' || lpad(n::text, 12, '0') as uuid),
           'Person <i>' || n || '</i>', now(), now()
      from generate_series(1, 300) n
"""


@pytest.fixture(scope="module")
def template(cluster: DatabaseFactory) -> Iterator[str]:
    """A small fleet, with held deletions of 150 of 300 users; it is copied for each test."""
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url))
    fill_fleet(opened.database, 3)
    with opened.database.open_transaction() as db:
        db.execute(text("update sync.runs set calls = 7"))
        db.execute(text(_USERS))
        db.execute(text(_HOLD), {"keys": [KEY.format(n) for n in range(1, 151)]})
        db.execute(
            text("""
                update sync.streams set phase = 'held',
                       reason = 'waits for approval: users: 150 of 300 rows would be deleted'
                 where connection_id = 1 and resource = 'users'
            """)
        )
        db.execute(
            text("update sync.connections set status = 'retired', retired_at = now() where id = 3")
        )
    opened.close()
    yield url
    cluster.drop(url)


@pytest.fixture
def web(template: str, cluster: DatabaseFactory) -> Iterator[WebApplication]:
    url = cluster.clone(template)
    opened = open_application(load_settings(database_url=url))
    revive_service(opened.database)
    yield opened
    opened.close()
    cluster.drop(url)


@pytest.fixture
def page(web: WebApplication) -> PageClient:
    return sign_in(web, Scope.READ, Scope.OPERATE)


def get_text(reply: WebReply) -> str:
    bare = re.sub(r"<[^>]+>", " ", reply.body.decode())
    return unescape(re.sub(r"\s+", " ", bare))


def list_operations(web: WebApplication) -> list[tuple[str, Any, str, str]]:
    with web.database.open_transaction() as db:
        rows = db.execute(text("select action, parameters, actor, via from sync.operations"))
        return [tuple(row) for row in rows]


def list_seen(reply: WebReply) -> list[str]:
    """What the forms of a page carry, once for each form."""
    return re.findall(r'name="seen" value="([^"]+)"', reply.body.decode())


def decide(page: PageClient, action: str, seen: list[str], **more: str) -> WebReply:
    fields = {"seen": seen, "agreed": "true", **more}
    return page.post(f"/connections/{HELD}/{action}", fields)


def end_a_run(web: WebApplication, state: str) -> None:
    """End a run of connection 2 that serves what was requested."""
    with web.database.open_transaction() as db:
        db.execute(
            text("""
                insert into sync.runs (connection_id, trigger, state, finished_at)
                values (2, 'manual', :state, clock_timestamp())
            """),
            {"state": state},
        )
        db.execute(text("update sync.connections set requested_at = null where id = 2"))
    web.context.fleet.invalidate()
    web.context.looks.invalidate(2)


def test_a_resync_says_its_price_and_leads_to_its_outcome(
    web: WebApplication, page: PageClient
) -> None:
    shown = get_text(page.get("/connections/2/resync"))
    assert shown.count("about 7 calls to Nango") == 2
    reply = page.post("/connections/2/resync", {"full": "true", "resource": ["users", "groups"]})
    assert reply.status == 303
    place = reply.headers["location"]
    ((action, parameters, _, via),) = list_operations(web)
    assert (action, via) == ("resync", "page")
    assert parameters == {"resources": ["users", "groups"], "full": True}
    assert "queued; the next tick" in get_text(page.get(place.partition("?")[0]))
    (number,) = re.findall(r"operation=(\d+)$", place)
    assert execute(web.database, int(number))
    web.context.looks.invalidate(2)
    path, _, query = place.partition("?")
    done = get_text(page.get(path, query=query))
    assert "resync , asked for by" in done
    assert "requested ; waits: " in done, "nothing has been read yet"
    end_a_run(web, "partial")
    done = get_text(page.get(path, query=query))
    assert re.search(r": requested ; run \d+ partial now", done)
    assert "waits: " not in done
    assert "asked for by" not in get_text(page.get(path)), "only the one that was led to is shown"
    assert "resync, requested" in done, "the audit is on the page"


def test_a_resync_is_requested_until_a_run_has_ended(web: WebApplication, page: PageClient) -> None:
    page.post("/connections/2/resync")
    assert execute(web.database, 1)
    web.context.fleet.invalidate()
    shown = get_text(page.get("/operations/1"))
    assert "UTC for 1 connection; the next run of each tells" in shown
    assert "1 of 1 requested" in shown
    assert "waits: due" in shown
    assert "succeeded" not in shown
    assert "succeeded" not in get_text(page.get("/operations")).partition("Finished")[2]
    end_a_run(web, "failed")
    assert re.search(r"run \d+ failed", get_text(page.get("/operations/1")))


def test_a_pause_has_a_reason_and_an_end_and_a_resume_ends_it(
    web: WebApplication, page: PageClient
) -> None:
    path = "/connections/2"
    given = {"reason": "they <move> house", "until": "2099-01-01T10:00", "hours": "4"}
    assert page.post(f"{path}/pause", given).status == 303
    ((_, parameters, _, _),) = list_operations(web)
    assert parameters == {"reason": "they <move> house", "until": "2099-01-01T10:00:00Z"}
    assert execute(web.database, 1)
    web.context.fleet.invalidate()
    shown = get_text(page.get(path))
    assert "because: they <move> house" in shown
    assert "2099-01-01 10:00:00 UTC" in shown
    assert "they &lt;move&gt; house" in page.get(f"{path}/pause").body.decode()
    assert "because: they <move> house" in get_text(page.get(f"{path}/resume"))
    assert page.post(f"{path}/resume").status == 303
    assert execute(web.database, 2)
    web.context.fleet.invalidate()
    assert "Paused by" not in get_text(page.get(path))
    assert "No operator has paused it" in get_text(page.get(f"{path}/resume"))


def test_a_resync_names_the_price_of_each_choice_and_why_it_will_not_help(
    web: WebApplication, page: PageClient
) -> None:
    with web.database.open_transaction() as db:
        db.execute(
            text("""
                update sync.runs set calls = 900
                 where id = (select min(id) from sync.runs where connection_id = 2)
            """)
        )
        db.execute(
            text("""
                update sync.connections set status = 'broken', status_reason = 'AADSTS700082'
                 where id = 2
            """)
        )
    web.context.fleet.invalidate()
    shown = get_text(page.get("/connections/2/resync"))
    assert "What has changed: about 7 calls" in shown
    assert "compare it: about 900 calls" in shown
    assert "It will not help now: it is broken: AADSTS700082;" in shown
    assert "it is not synced, so a resync will be refused" in get_text(
        page.get(f"/connections/{RETIRED}/resync")
    )
    assert "It will not help" not in get_text(page.get(f"/connections/{HELD}/resync"))


def test_a_pause_ends_after_four_hours_unless_something_else_is_chosen(page: PageClient) -> None:
    shown = page.get("/connections/2/pause").body.decode()
    assert re.findall(r'value="(\d*)" selected', shown) == ["4"]
    assert re.search(r'name="reason"[^>]* required', shown)
    given = {"reason": "x", "until": "soon"}
    kept = page.post("/connections/2/pause", given).body.decode()
    assert re.findall(r'value="(\d*)" selected', kept) == [""], "as it was sent"


def test_a_form_and_what_follows_it_keep_the_zone(page: PageClient) -> None:
    shown = page.get("/connections/2/pause", query={"zone": "local"}).body.decode()
    (place,) = re.findall(r'<form method="post" action="(/connections[^"]+)"', shown)
    assert place == "/connections/2/pause?zone=local"
    reply = page.post(place, {"reason": "x"})
    assert reply.headers["location"].endswith("&zone=local")


def test_what_is_wrong_with_a_form_is_said_once(page: PageClient) -> None:
    reply = page.post("/connections/2/pause", {"hours": "0", "reason": "x"})
    assert reply.status == 422
    assert get_text(reply).count("must be a whole number") == 1
    both = page.post("/connections/2/pause", {"hours": "0", "unknown": "x"})
    assert get_text(both).count("must be a whole number") == 1


@pytest.mark.parametrize(
    ("number", "action", "fields", "status", "words"),
    [
        (2, "pause", {"hours": "4"}, 422, "give the reason of the pause"),
        (2, "pause", {"reason": "x", "until": "soon"}, 422, "must be a time"),
        (2, "pause", {"reason": "x", "until": "0001-01-01T00:00+23:59"}, 422, "must be a time"),
        (
            2,
            "pause",
            {"reason": "x", "until": "2001-01-01T00:00"},
            422,
            "a pause ends in the future",
        ),
        (2, "pause", {"reason": "two\nlines"}, 422, "one line of at most"),
        (2, "pause", {"hours": "0"}, 422, "hours"),
        (2, "pause", {"reason": "x" * 301}, 422, "reason"),
        (2, "pause", {"unknown": "x"}, 422, "unknown"),
        (RETIRED, "pause", {"reason": "x"}, 409, "it is retired"),
        (RETIRED, "resync", {}, 409, "it is retired"),
        (2, "resync", {"resource": "pets"}, 422, "no such resource"),
        (2, "resync", {"full": "maybe"}, 422, "full"),
        (HELD, "approve", {"seen": "users:1:ab"}, 422, "confirm that you have looked"),
        (HELD, "approve", {"agreed": "true"}, 422, "does not say what was shown"),
        (HELD, "approve", {"agreed": "true", "seen": "users:1"}, 422, "seen"),
        (HELD, "approve", {"agreed": "true", "seen": "users:1:ab"}, 409, "has changed"),
        (99, "resync", {}, 404, "no connection 99"),
        (99, "approve", {}, 404, "no connection 99"),
    ],
)
def test_what_is_refused_says_why_and_does_nothing(
    web: WebApplication,
    page: PageClient,
    number: int,
    action: str,
    fields: dict[str, str],
    status: int,
    words: str,
) -> None:
    reply = page.post(f"/connections/{number}/{action}", fields)
    assert reply.status == status, reply.body
    assert words in get_text(reply)
    assert list_operations(web) == []


def test_held_deletions_are_shown_with_names_share_rule_and_all_pages(page: PageClient) -> None:
    reply = page.get(f"/connections/{HELD}/held")
    shown = get_text(reply)
    assert "An approval deletes 150 rows" in shown
    assert "150 of 300" in shown
    assert "50.0 %" in shown
    assert "users: 150 of 300 rows would be deleted" in shown
    assert "Person <i>1</i>" in shown
    assert b"<i>1</i>" not in reply.body
    body = reply.body.decode()
    (after,) = re.findall(r'rel="next" href="([^"]+)"', body)
    path, _, query = unescape(after).partition("?")
    rest = page.get(path, query=query).body.decode()
    keys = [*re.findall(r'<code class="whole">(0{8}-[^<]+)<', body + rest)]
    assert keys == [KEY.format(n) for n in range(1, 151)]
    assert 'rel="next"' not in rest


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_a_decision_carries_what_was_shown(
    web: WebApplication, page: PageClient, action: str
) -> None:
    seen = list_seen(page.get(f"/connections/{HELD}/held"))
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert decide(page, action, seen[:1]).status == 303
    ((done, parameters, _, via),) = list_operations(web)
    assert (done, via) == (action, "page")
    assert parameters["expected"]["users"]["count"] == 150


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_a_decision_on_less_than_is_held_keeps_the_page_open_with_what_is_held_now(
    web: WebApplication, page: PageClient, action: str
) -> None:
    seen = list_seen(page.get(f"/connections/{HELD}/held"))[:1]
    with web.database.open_transaction() as db:
        db.execute(text(_HOLD), {"keys": [KEY.format(200)]})
    reply = decide(page, action, seen)
    assert reply.status == 409
    assert "Refused:" in get_text(reply)
    assert "151 of 300" in get_text(reply)
    assert list_operations(web) == []
    with web.database.open_transaction() as db:
        held = db.execute(text("select count(*) from sync.removals where held")).scalar_one()
    assert held == 151
    now = list_seen(reply)[:1]
    assert now != seen
    assert decide(page, action, now).status == 303
    entries = get_text(page.get(f"/connections/{HELD}"))
    assert f"{action}, refused" in entries


@pytest.mark.parametrize("action", FORMS)
@pytest.mark.parametrize("who", ["nobody", "reader", "forged"])
def test_who_may_not_act_does_nothing(web: WebApplication, action: str, who: str) -> None:
    scopes = [Scope.READ] if who == "reader" else [Scope.READ, Scope.OPERATE]
    page = PageClient(web.client) if who == "nobody" else sign_in(web, *scopes)
    headers = {"sec-fetch-site": "cross-site"} if who == "forged" else None
    fields = {"agreed": "true", "seen": "users:1:ab"} if action in FORMS[3:] else {}
    reply = page.post(f"/connections/{HELD}/{action}", fields, headers=headers)
    assert reply.status == (401 if who == "nobody" else 403)
    assert list_operations(web) == []
    with web.database.open_transaction() as db:
        acted = text("select count(*) from sync.audit where action = :action")
        assert db.execute(acted, {"action": action}).scalar_one() == 0


def test_a_reader_sees_what_is_held_without_a_form(web: WebApplication) -> None:
    reply = sign_in(web, Scope.READ).get(f"/connections/{HELD}/held")
    assert "150 of 300" in get_text(reply)
    assert list_seen(reply) == []


def test_without_held_deletions_the_page_says_so(page: PageClient) -> None:
    assert "There are no held deletions." in get_text(page.get("/connections/2/held"))


_TIMED = (
    (
        "update sync.streams set phase = 'refused', reason = 'no, at 2026-11-02 10:00 UTC' "
        "where connection_id = 2 and resource = 'sites'"
    ),
    (
        "insert into sync.runs (connection_id, trigger, state, started_at, finished_at, error) "
        "values (2, 'manual', 'failed', now(), now(), 'it ended at 2026-11-02T10:00:00+00:00')"
    ),
    "update sync.operation_targets set detail = detail || ', at 2026-11-02 10:00:01 UTC'",
)


def test_times_in_stored_texts_follow_the_switch(web: WebApplication, page: PageClient) -> None:
    page.post("/connections/2/pause", {"reason": "moving", "until": "2099-01-01T10:00"})
    assert execute(web.database, 1)
    with web.database.open_transaction() as db:
        for statement in _TIMED:
            db.execute(text(statement))
        run_id = db.execute(text("select max(id) from sync.runs")).scalar_one()
    web.context.forget(2)
    moment = re.compile(r"\d\d:\d\d(:\d\d)? UTC|\d\d:\d\d\+00:00")
    paths = ("/", "/connections/2", "/connections/2/pause", "/audit", "/operations/1", "/runs")
    for path in (*paths, f"/runs/{run_id}"):
        utc = page.get(path).body.decode().partition("<main")[2]
        relative = page.get(path, query="zone=relative").body.decode().partition("<main")[2]
        assert moment.search(utc), path
        assert not moment.search(relative), path
        bare = re.sub(r"<time[^>]*>[^<]*</time>", "", utc)
        assert not moment.search(bare), "what a browser cannot put into its zone"


def test_wrong_settings_in_nango_lead_to_reading_its_list_again(
    web: WebApplication, page: PageClient
) -> None:
    with web.database.open_transaction() as db:
        wrong = "update sync.connections set settings_problem = 'delta_seconds: no' where id = 2"
        db.execute(text(wrong))
        assert claim_discovery(db, 3600)
        assert not claim_discovery(db, 3600), "it was read a moment ago"
    shown = page.get("/connections/2").body.decode()
    assert 'href="/connections/2/discovery">Read Nango&#39;s list …</a>' in shown
    asked = get_text(page.get("/connections/2/discovery"))
    assert "delta_seconds: no" in asked
    assert "Correct it in Nango first" in asked
    reply = page.post("/connections/2/discovery")
    assert reply.headers["location"] == "/connections/2?discovery=true"
    after = get_text(page.get("/connections/2", query="discovery=true"))
    assert "Nango's list was asked for" in after
    assert "connections discover, done" in after, "the audit has it"
    with web.database.open_transaction() as db:
        assert claim_discovery(db, 3600), "the next tick reads it"
    assert page.post("/connections/4711/discovery").status == 404
