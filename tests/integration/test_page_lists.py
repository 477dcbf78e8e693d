"""Permissions, runs, sinks, budgets and the audit: what their pages show and what they cost."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from threading import current_thread
from typing import Any
from urllib.parse import parse_qsl

import pytest
from sqlalchemy import event, text

from models.api_token import Scope
from models.audit import AuditOutcome, Via
from models.run import RunState, RunTrigger
from sandbox.servers import Servers
from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from tests.support.hostile import HOSTILE_NAMES, plant_names
from tests.support.page import PageClient, sign_in
from tests.support.web import WebApplication, open_application
from worker.core.settings import load_settings
from worker.overview.permissions import UNLOCKS
from worker.store.engine import Database
from worker.store.service.audit import Actor, AuditFilter, build_audit_list, record_audit
from worker.store.state.fleet_runs import (
    RunFilter,
    build_counts,
    build_list,
    count_fleet_runs,
    list_fleet_runs,
)

NUMBER = 2000
PATHS = ("/permissions", "/runs", "/sinks", "/budget", "/audit")
STATEMENTS = 4
"""Most statements of a page, besides the look at the fleet that all pages share, and its time
limit."""
SECRET_PATH = "path-with-a-key"
_REFUSED = """
    update sync.streams set phase = 'refused', reason = 'Graph answered 403 forbidden'
     where resource = any(:names) and connection_id = any(:ids)
"""
_SINKS = """
    insert into events.sinks
           (name, kind, status, status_reason, settings, failures, retry_at, last_delivered_at)
    values ('crm', 'webhook', 'active', 'the receiver answered 503',
            '{"url": "https://hooks.example.com/path-with-a-key", "batch": 5}', 7,
            now() + interval '1 hour', now() - interval '2 hours'),
           ('search', 'redis-stream', 'paused', 'paused by an operator', '{}', 0, null, null)
"""
_RUNS = """
    insert into sync.runs
           (connection_id, trigger, state, started_at, finished_at, slices, calls, created, error)
    values (7, 'manual', 'failed', now() - interval '3 s', now(), 2, 40, 0, 'Graph answered 504'),
           (8, 'backfill', 'held', now() - interval '2 s', now(), 3, 9, 1200, 'deletions wait'),
           (9, 'scheduled', 'running', now(), null, 1, 3, 5, null)
"""
_RESULTS = {
    "users": {
        "phase": "delta",
        "mode": "delta",
        "drift": {"users": {"deleted": 4}},
        "changes": {"users": {"created": 3}},
        "left_out": ["city"],
        "page_size": 100,
        "problem": None,
    },
    "sites": {
        "phase": "refused",
        "mode": "delta",
        "drift": None,
        "changes": {},
        "left_out": [],
        "page_size": None,
        "problem": "refused: 403",
    },
}
_REPORT = """
    update sync.runs set resources = cast(:results as jsonb)
     where connection_id = 7 and state = 'failed' returning id
"""


@pytest.fixture(scope="module")
def web(cluster: DatabaseFactory, servers: Servers) -> Iterator[WebApplication]:
    """A large fleet with something to see on every page."""
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url, redis_url=servers.redis_url))
    fill_fleet(opened.database, NUMBER, runs=12)
    plant_names(opened.database)
    with opened.database.open_transaction() as db:
        db.execute(text("update sync.connections set due_at = due_at + interval '1 day'"))
        db.execute(text(_REFUSED), {"names": ["sites"], "ids": [20, 21, 22]})
        roles = ["role_definitions", "role_assignments"]
        db.execute(text(_REFUSED), {"names": roles, "ids": [22]})
        db.execute(text(_SINKS))
        db.execute(text(_RUNS))
        for number in range(60):
            actor = Actor("ann" if number % 3 else "robot", Via.API)
            record_audit(
                db,
                actor,
                "resync" if number % 2 else "pause",
                AuditOutcome.DONE,
                connection_id=100 + number,
                subject=f"entra/{number}",
                parameters={"reason": "moving house"},
                detail="done",
            )
        db.execute(text("analyze"))
    yield opened
    opened.close()
    cluster.drop(url)


@pytest.fixture(scope="module")
def page(web: WebApplication) -> PageClient:
    return sign_in(web, Scope.READ)


@pytest.fixture(autouse=True)
def _alive(web: WebApplication) -> None:
    revive_service(web.database)
    web.context.fleet.invalidate()
    web.context.reads.clear()


def read(page: PageClient, path: str, **query: Any) -> str:
    reply = page.get(path, query=query)
    assert reply.status == 200, reply.body.decode()
    return reply.body.decode()


def _is_about_sign_in(statement: str) -> bool:
    return "sync.page_sessions" in statement or "sync.api_tokens" in statement


def list_rows(body: str, letter: str) -> list[int]:
    return [int(one) for one in re.findall(rf'<tr role="row" id="{letter}(\d+)"', body)]


def find_next(body: str) -> dict[str, str] | None:
    found = re.search(r'rel="next" href="[^"?]*\?([^"]*)"', body)
    if found is None:
        return None
    return dict(parse_qsl(unescape(found[1])))


def walk(page: PageClient, path: str, letter: str, **query: Any) -> list[int]:
    """The ids of all rows, page by page."""
    found: list[int] = []
    asked: dict[str, Any] | None = query
    while asked is not None:
        body = read(page, path, **asked)
        found += list_rows(body, letter)
        asked = find_next(body)
    return found


@pytest.mark.parametrize("path", PATHS)
def test_a_page_takes_few_statements_and_names_harm_nobody(
    web: WebApplication, page: PageClient, path: str
) -> None:
    read(page, path)
    web.context.reads.clear()
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        is_aside = "statement_timeout" in statement or _is_about_sign_in(statement)
        if current_thread().name != "fleet" and not is_aside:
            seen.append(statement)

    event.listen(web.database._engine, "before_cursor_execute", note)
    try:
        body = read(page, path)
    finally:
        event.remove(web.database._engine, "before_cursor_execute", note)
    assert len(seen) <= STATEMENTS, seen
    for name in HOSTILE_NAMES:
        assert "<" not in name or name not in body
    assert SECRET_PATH not in body


@pytest.mark.parametrize("path", PATHS)
def test_an_unchanged_page_is_not_sent_again(page: PageClient, path: str) -> None:
    first = page.refresh(path)
    assert first.status == 200
    again = page.refresh(path, first.headers["hx-ptag"])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("zone", ["local", "relative"])
def test_every_link_keeps_the_zone(page: PageClient, path: str, zone: str) -> None:
    body = read(page, path, zone=zone)
    assert f'data-zone="{zone}"' in body
    main = body.partition("<main")[2].partition("</main>")[0]
    links = [one for one in re.findall(r'href="(/[^"]*)"', main) if ".csv" not in one]
    assert links
    assert [one for one in links if f"zone={zone}" not in one] == []


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/permissions", {"permission": "No.Such"}),
        ("/permissions", {"state": "perhaps"}),
        ("/permissions", {"after": "no key"}),
        ("/runs", {"state": "gone"}),
        ("/runs", {"since": "yesterday"}),
        ("/runs", {"after": 0}),
        ("/audit", {"action": "dance"}),
        ("/audit", {"limit": 1000}),
        ("/sinks", {"status": "happy"}),
    ],
    ids=str,
)
def test_a_query_that_cannot_be_is_refused_in_words(
    page: PageClient, path: str, query: dict[str, Any]
) -> None:
    reply = page.get(path, query=query)
    assert reply.status == 422
    assert "<h1>" in reply.body.decode()


# Permissions.


def test_the_list_begins_with_who_lacks_most_and_has_the_text_to_send(page: PageClient) -> None:
    body = read(page, "/permissions")
    assert list_rows(body, "c")[:3] == [22, 20, 21]
    assert re.search(r"<strong>3</strong> of <strong>2,000</strong> customers lack", body)
    text_of_22 = body.partition('id="c22"')[2].partition("</tr>")[0]
    assert "adminconsent" in text_of_22
    assert "Sites.Read.All and RoleManagement.Read.Directory" in text_of_22
    cells = dict(re.findall(r'data-label="([^"]+)"[^>]*>(.*?)</td>', text_of_22, re.DOTALL))
    assert cells["Not granted"].count("missing</span>") == 1
    lacking = re.findall(r"<code>([\w.]+)</code>", cells["Not granted"])
    assert lacking == ["Sites.Read.All", "RoleManagement.Read.Directory"]
    assert cells["Granted"] == f"{len(UNLOCKS) - 2} of {len(UNLOCKS)}"
    assert body.count('class="nothing">nothing<') == len(list_rows(body, "c")) - 3


def test_what_each_customer_has_granted_is_said_once(web: WebApplication, page: PageClient) -> None:
    body = read(page, "/permissions")
    said = re.search(r"Granted by each of 2,000 customers: (.*?)</p>", body)
    assert said
    everywhere = re.findall(r"<code>([\w.]+)</code>", said[1])
    lacked = {"Sites.Read.All", "RoleManagement.Read.Directory"}
    assert everywhere == [one for one in UNLOCKS if one not in lacked]
    tenant = web.context.fleet.get().by_id[21].facts.tenant_id
    alone = read(page, "/permissions", text=tenant)
    assert list_rows(alone, "c") == [21]
    assert "Granted by each" not in alone, "the row of one customer tells all"


def test_a_customer_is_asked_for_each_missing_permission_and_for_all_at_once(
    page: PageClient,
) -> None:
    body = read(page, "/connections/22")
    texts = dict(re.findall(r'<textarea id="ask-([\w.]+)-text" readonly[^>]*>([^<]+)<', body))
    assert set(texts) == {"all", "Sites.Read.All", "RoleManagement.Read.Directory"}
    roles = texts["RoleManagement.Read.Directory"]
    assert "read role definitions and role assignments of your" in unescape(roles)
    assert "permissions Sites.Read.All and RoleManagement.Read.Directory" in texts["all"]
    assert body.count("data-copy=") == 3
    matrix = read(page, "/permissions").partition('id="c22"')[2].partition("</tr>")[0]
    assert re.findall(r"<p><code>([\w.]+)</code>", matrix) == list(texts)[1:]
    assert matrix.count("<textarea") == 1


def test_each_count_of_a_permission_leads_to_its_customers(page: PageClient) -> None:
    body = read(page, "/permissions", permission="Sites.Read.All", state="missing")
    assert sorted(list_rows(body, "c")) == [20, 21, 22]
    only = read(page, "/permissions", permission="RoleManagement.Read.Directory")
    assert list_rows(only, "c") == [22], "without a state: who lacks it"
    named = read(page, "/permissions", text="Fulmar Foods 21", state="missing")
    assert list_rows(named, "c") == [21]
    assert re.search(r"<strong>1</strong> of <strong>\d+</strong> customers lack", named)


@pytest.mark.parametrize("sort", ["missing", "name", "id"])
def test_no_customer_is_lost_or_doubled_by_paging_the_matrix(page: PageClient, sort: str) -> None:
    found = walk(page, "/permissions", "c", sort=sort, limit=200)
    assert sorted(found) == list(range(1, NUMBER + 1))


def test_an_empty_matrix_says_that_the_filter_hides_all(page: PageClient) -> None:
    body = read(page, "/permissions", text="no such customer")
    assert "No customers match the filter" in body
    assert 'href="/permissions?sort=missing"' in body


# Runs.


def test_runs_are_filtered_by_outcome_trigger_and_customer(page: PageClient) -> None:
    failed = read(page, "/runs", state="failed")
    assert "Graph answered 504" in failed
    (run_id,) = list_rows(failed, "r")
    assert list_rows(read(page, "/runs", trigger="manual"), "r") == [run_id]
    assert list_rows(read(page, "/runs", connection=7, state="failed"), "r") == [run_id]
    assert len(list_rows(read(page, "/runs", connection=7), "r")) == 13
    running = read(page, "/runs", state="running")
    assert "so far" in running
    by_name = read(page, "/runs", text=f"Textiles {NUMBER - 1}", state="failed")
    assert "No runs match the filter" in by_name


def test_counts_of_runs_follow_the_filter_up_to_a_bound(page: PageClient) -> None:
    body = read(page, "/runs", connection=7)
    chips = dict(re.findall(r"(\w+) <strong>([\d,+]+)</strong></a>", body))
    assert chips == {"running": "0", "failed": "1", "held": "0", "partial": "0", "succeeded": "12"}
    whole = read(page, "/runs")
    assert "succeeded <strong>1,000+</strong>" in whole


def test_no_run_is_lost_or_doubled_by_paging(web: WebApplication, page: PageClient) -> None:
    found = walk(page, "/runs", "r", text="Textiles 6", limit=100)
    with web.database.open_transaction() as db:
        every = db.execute(
            text("""
                select r.id from sync.runs r join sync.connections c on c.id = r.connection_id
                 where c.display_name like '%Textiles 6%' order by r.id desc
            """)
        ).scalars()
        assert found == list(every)


def test_runs_of_days_are_found(page: PageClient) -> None:
    today = datetime.now(UTC).date()
    assert list_rows(read(page, "/runs", since=str(today - timedelta(days=1))), "r")
    assert not list_rows(read(page, "/runs", since=str(today + timedelta(days=1))), "r")
    assert not list_rows(read(page, "/runs", until=str(today - timedelta(days=2))), "r")


def test_a_run_says_what_came_what_changed_and_what_was_left_out(
    web: WebApplication, page: PageClient
) -> None:
    with web.database.open_transaction() as db:
        run_id = db.execute(text(_REPORT), {"results": json.dumps(_RESULTS)}).scalar_one()
    body = read(page, f"/runs/{run_id}")
    for words in (
        "Graph answered 504",
        "without city: Graph does not know them in this tenant",
        "read in pages of 100",
        "refused: 403",
        "3 new",
        "4 deleted",
        'href="/connections/7"',
        'href="/runs?connection=7"',
    ):
        assert words in body, words
    assert page.get("/runs/999999999").status == 404


def test_a_run_that_goes_on_says_what_it_waits_for(web: WebApplication, page: PageClient) -> None:
    with web.database.open_transaction() as db:
        found = text("select id from sync.runs where state = 'running'")
        run_id = db.execute(found).scalar_one()
    body = read(page, f"/runs/{run_id}")
    assert "not yet" in body
    assert "The report on each resource is written when the run ends" in body


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (RunFilter(), "pk_runs"),
        (RunFilter(state=RunState.FAILED), "ix_runs_unsuccessful"),
        (RunFilter(state=RunState.HELD, trigger=RunTrigger.SCHEDULED), "ix_runs_unsuccessful"),
        (RunFilter(state=RunState.RUNNING), "ix_runs_running"),
        (RunFilter(trigger=RunTrigger.MANUAL), "ix_runs_unscheduled"),
        (RunFilter(connection_ids=(7,)), "ix_runs_connection_id_id"),
        (RunFilter(since=datetime(2026, 1, 1, tzinfo=UTC)), "pk_runs"),
    ],
    ids=str,
)
def test_runs_are_listed_and_counted_by_an_index(
    web: WebApplication, wanted: RunFilter, index: str
) -> None:
    values = {
        "ids": list(wanted.connection_ids or ()),
        "since": wanted.since,
        "limit": 51,
    }
    given = {name: value for name, value in values.items() if value}
    plan = explain(web.database, build_list(wanted, None).text, **given)
    assert index in plan
    assert "Seq Scan" not in plan


def explain(database: Database, statement: str, **values: Any) -> str:
    with database.open_transaction() as db:
        return "\n".join(db.execute(text(f"explain {statement}"), values).scalars())


def test_lists_and_counts_agree(web: WebApplication) -> None:
    wanted = RunFilter(connection_ids=(7, 8, 9))
    with web.database.open_transaction() as db:
        runs = list_fleet_runs(db, wanted, limit=1000)
        counts = count_fleet_runs(db, wanted)
    assert sum(counts.values()) == len(runs) == 39
    assert counts[RunState.HELD] == 1
    assert "ix_runs_unsuccessful" in explain(web.database, build_counts(RunFilter()).text, limit=9)


# Sinks.


def test_a_sink_shows_its_state_lag_and_reason_without_secrets(page: PageClient) -> None:
    body = read(page, "/sinks")
    assert "hooks.example.com" in body
    assert "failed 7 times in a row" in body
    assert "the receiver answered 503" in body
    paused = read(page, "/sinks", status="paused")
    assert "<bdi>search</bdi>" in paused
    assert "<bdi>crm</bdi>" not in paused
    hidden = read(page, "/sinks", status="disabled")
    assert "No sinks match the filter" in hidden


# Budgets and workers.


def test_the_budget_shows_its_limit_use_and_who_waits(
    web: WebApplication, page: PageClient
) -> None:
    with web.database.open_transaction() as db:
        db.execute(text("update sync.connections set due_at = now() where id in (31, 32)"))
        db.execute(
            text("""
                insert into sync.counters (name, labels, slot, value)
                values ('throttled_responses', array['graph'], 1, 431)
            """)
        )
    web.context.fleet.invalidate()
    body = read(page, "/budget")
    assert "431" in body
    assert 'href="/connections/31"' in body.partition('id="waiting"')[2].partition("</section>")[0]
    assert "worker@host" in body
    assert "the dispatcher ticks" in body
    use = body.partition('id="use"')[2]
    assert 'href="/connections/7"' in use, "it called most"
    assert 'id="chart-calls-by-minute"' in use
    assert re.search(r">\d\d:\d\d</th><td class=\"number\">[\d,]+</td>", use), "its table"


def test_a_worker_that_is_silent_is_shown_as_such(web: WebApplication, page: PageClient) -> None:
    with web.database.open_transaction() as db:
        db.execute(
            text("""
                insert into sync.workers (name, queues, processes, seen_at)
                values ('worker@old:1:1:x', array['backfill'], array['old:2:1:x'],
                        now() - interval '1 hour')
            """)
        )
    web.context.fleet.invalidate()
    body = read(page, "/budget")
    row = body.partition("worker@old")[2].partition("</tr>")[0]
    assert "silent" in row


# The audit.


def test_the_audit_says_who_did_what_and_to_whom(page: PageClient) -> None:
    body = read(page, "/audit")
    assert len(list_rows(body, "a")) == 50
    assert "reason: moving house" in body
    assert re.search(r'href="/connections/15\d"><bdi>\w+', body), "customers by their name"


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ({"actor": "robot"}, 20),
        ({"action": "pause"}, 30),
        ({"actor": "robot", "action": "pause"}, 10),
        ({"connection": 101}, 1),
        ({"actor": "nobody"}, 0),
        ({"since": "2999-01-01"}, 0),
        ({"until": "2001-01-01"}, 0),
        ({"since": "2001-01-01", "until": "2999-01-01"}, 60),
    ],
    ids=str,
)
def test_counts_of_the_audit_follow_its_filter(
    page: PageClient, query: dict[str, Any], number: int
) -> None:
    assert len(walk(page, "/audit", "a", limit=7, **query)) == number
    body = read(page, "/audit", **query)
    assert f"<span>{number} {'entry' if number == 1 else 'entries'}</span>" in body
    assert ("No entries match the filter" in body) == (number == 0)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (AuditFilter(actor="rare"), "ix_audit_actor_id"),
        (AuditFilter(actions=("sinks.add",)), "ix_audit_action_id"),
        (AuditFilter(connection_ids=(7,)), "ix_audit_connection_id_id"),
    ],
    ids=str,
)
def test_the_audit_is_found_by_an_index(
    web: WebApplication, wanted: AuditFilter, index: str
) -> None:
    statement = build_audit_list(wanted).order_by(text("id desc")).limit(51)
    with web.database.open_transaction() as db:
        db.execute(text("set local enable_seqscan = off"))
        compiled = statement.compile(
            db.engine, compile_kwargs={"literal_binds": True, "render_postcompile": True}
        )
        plan = "\n".join(db.exec_driver_sql(f"explain {compiled}").scalars())
    assert index in plan
