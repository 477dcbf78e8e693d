"""The page of one connection: what it shows, what it costs, and its support bundle."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape

import pytest
from sqlalchemy import event, text

from models.api_token import Scope
from models.resources import RESOURCES, STREAMED
from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from tests.support.hostile import HOSTILE_NAMES
from tests.support.page import PageClient, sign_in
from tests.support.web import WebApplication, open_application
from worker.core.settings import load_settings
from worker.events import recent_changes
from worker.overview.connection_look import FRESH_SECONDS, ConnectionLooks
from worker.store.mirror import count_live
from worker.store.state import run_history
from worker.store.state.connection_operations import list_connection_operations

USER = "00000000-0000-0000-0000-00000000000{}"
BUSY, QUIET, RETIRED, REFUSED, WALKING, HOSTILE, NEW = range(1, 8)
CANARIES = ("Canary Person", "canary@canary.example", "canary-secret", "canary-domain")

_USERS = """
    insert into directory.users (connection_id, id, display_name, user_principal_name, mail,
                                 first_seen_at, changed_at)
    select 1, cast(:id as uuid), :name, 'canary@canary.example', 'canary@canary.example', now(),
           now()
"""
_EVENTS = """
    insert into events.change_events (connection_id, seq, occurred_at, resource, object_id, change,
                                      changed, after, initial)
    select 1, n, now() - (100 - n) * interval '1 second', 'users',
           '00000000-0000-0000-0000-00000000000' || (case when n = 1 then 2 else 1 end),
           case when n = 1 then 'created' else 'updated' end,
           case when n > 1 then array['job_title'] end, '{}', n = 1
      from generate_series(1, 4) n
"""
_RUNS = """
    insert into sync.runs (connection_id, trigger, state, started_at, finished_at, slices, calls,
                           updated, deleted, error, resources)
    select 1, case when n = 41 then 'backfill' else 'scheduled' end,
           case when n = 5 then 'failed' else 'succeeded' end, at, at + interval '7 seconds', 1, 9,
           case when n = 41 then 1000 else 2 end, case when n = 9 then 3 else 0 end,
           case when n = 5 then 'Graph answered 503' end,
           case when n = 12 then '{"users": {"drift": {"users": {"deleted": 4}}}}'::jsonb end
      from generate_series(41, 1, -1) n
     cross join lateral (select now() - n * interval '2 hours' as at) as m
"""
_PLANT = (
    _EVENTS,
    "update sync.leases set event_seq = 4 where connection_id = 1",
    "delete from sync.runs where connection_id in (1, 7)",
    _RUNS,
    f"update sync.connections set status = 'retired', retired_at = now() where id = {RETIRED}",
    f"""update sync.streams set phase = 'refused', reason = 'Graph refuses it: Forbidden'
         where connection_id = {REFUSED} and resource = 'groups'""",
    f"""update sync.streams set phase = 'listing', page_no = 40, seen_count = 4000,
               walk_started_at = now() - interval '40 seconds', full_walk_count = 10000
         where connection_id = {WALKING} and resource = 'users'""",
    f"""update sync.streams set phase = 'listing', page_no = 3, seen_count = 300,
               first_complete_at = null, walk_started_at = now() - interval '3 seconds'
         where connection_id = {WALKING} and resource = 'sites'""",
    f"""update sync.leases set holder = 'host:2:1:x', expires_at = now() + interval '1 hour'
         where connection_id = {WALKING}""",
    f"delete from sync.streams where connection_id = {NEW}",
    f"""update sync.connections
           set operator_paused_at = now(), operator_paused_by = 'Canary Person',
               operator_pause_reason = 'canary@canary.example called', nango_connection_id =
               'canary@canary.example', display_name = 'Canary Person',
               domains = array['canary-domain.example', 'canary-domain.onmicrosoft.com']
         where id = {BUSY}""",
)


@pytest.fixture(scope="module")
def web(cluster: DatabaseFactory) -> Iterator[WebApplication]:
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url, nango_secret_key="canary-secret"))
    fill_fleet(opened.database, NEW)
    with opened.database.open_transaction() as db:
        for number, name in ((1, "Canary Person"), (2, "<b>Bold</b>")):
            db.execute(text(_USERS), {"id": USER.format(number), "name": name})
        for statement in _PLANT:
            db.execute(text(statement))
        # None falls due during the tests.
        db.execute(text("update sync.connections set due_at = due_at + interval '1 day'"))
    yield opened
    opened.close()
    cluster.drop(url)


@pytest.fixture(scope="module")
def page(web: WebApplication) -> PageClient:
    return sign_in(web, Scope.READ)


@pytest.fixture(autouse=True)
def _alive(web: WebApplication) -> None:
    revive_service(web.database)


def read(page: PageClient, number: int, part: str = "", **query: object) -> str:
    reply = page.get(f"/connections/{number}{part}", query=query)
    assert reply.status == 200, reply.body
    return reply.body.decode()


def get_text(body: str) -> str:
    """The words of a page, without its markup."""
    bare = re.sub(r"<[^>]+>", " ", body[body.index("<main") :])
    return unescape(re.sub(r"\s+", " ", bare))


@contextmanager
def count_statements(web: WebApplication) -> Iterator[list[str]]:
    statements: list[str] = []
    engine = web.database._engine

    def note(*args: object) -> None:
        statements.append(str(args[2]))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_its_title_has_every_id_that_it_is_known_by(web: WebApplication, page: PageClient) -> None:
    facts = web.context.fleet.get().by_id[QUIET].facts
    body = read(page, QUIET)
    for known in (facts.name, facts.tenant_id, facts.nango_id, facts.integration):
        assert f">{known}<" in body
    assert f'<code class="whole">{QUIET}</code>' in body


def test_it_says_why_it_does_not_run_now_and_what_is_wrong(page: PageClient) -> None:
    told = get_text(read(page, BUSY))
    assert "Paused by Canary Person" in told
    assert "because: canary@canary.example called" in told
    assert "When it moves next depends on a person" in told
    assert get_text(read(page, QUIET)).count("None. It has no problem of its own.") == 1
    assert "groups is refused" in get_text(read(page, REFUSED))


def test_every_resource_has_phase_age_rows_and_drift(page: PageClient) -> None:
    told = get_text(read(page, BUSY))
    for name in RESOURCES:
        assert name.replace("_", " ") in told
    age = r"(\d+ \w+) limit 15 min"
    users = re.search(rf" users following changes {age} 2 (2 deleted) 24 h ago – –", told)  # noqa: RUF001
    assert users, told
    assert "refused" in get_text(read(page, REFUSED))
    new = get_text(read(page, NEW))
    optional = [one.name.replace("_", " ") for one in STREAMED if one.is_optional]
    assert new.count("not read yet") == len(STREAMED) - len(optional)
    for name in optional:  # one that nobody has switched on
        assert f" {name} off " in new


def test_a_walk_under_way_shows_how_far_it_is_and_when_it_ends(page: PageClient) -> None:
    told = get_text(read(page, WALKING))
    known = re.search(
        r"users : reading all of it\. 40 pages, 4,000 objects since .*?, (\d+) a sec", told
    )
    assert known, told
    assert 50 <= int(known[1]) <= 100
    assert "40 % of the 10,000 of the last full walk the rest ends about in" in told
    assert "sites : reading all of it. 3 pages, 300 objects" in told
    assert "how much it will be is not known before its end" in told
    assert "Walks under way" not in get_text(read(page, QUIET))


def test_recent_runs_and_changes_name_what_changed_without_first_loads(page: PageClient) -> None:
    body = read(page, BUSY)
    told = get_text(body)
    assert len(set(re.findall(r'href="/runs/(\d+)"', body))) == 10
    assert "Graph answered 503" in told
    assert told.count("users updated Canary Person job_title") == 3
    assert "Bold" not in told, "it came with the first load"
    assert "users 3" in told


def test_charts_have_a_title_and_the_same_numbers_as_a_table(page: PageClient) -> None:
    body = read(page, BUSY)
    titles = re.findall(r"<title id=\"[\w-]+\">([^<]+)</title>", body)
    assert [one.partition(":")[0] for one in titles] == [
        "Changes a day",
        "Age of the data, 7 days",
        "Longest run, 7 days",
        "Drift a day",
    ]
    assert "83 changes in 30 days, without first loads" in titles[0]
    assert "at most 4 h when a run had replaced it; beyond the limit of 15 min in" in titles[1]
    assert "40 runs, 1 failed; the longest took 7 s" in titles[2]
    assert titles[3].startswith("Drift a day: 4 changes that full walks found")
    assert body.count('<details id="numbers-') == 4
    assert 'style="' not in body
    assert "<script>" not in body


def test_a_missing_permission_is_named_with_what_it_unlocks_and_a_text(page: PageClient) -> None:
    told = get_text(read(page, REFUSED))
    permission = RESOURCES["groups"].permission
    assert f"{permission} unlocks groups , group members , group owners ." in told
    assert f"because our application lacks the permission {permission}" in told


def test_empty_parts_say_that_there_is_nothing(page: PageClient) -> None:
    told = get_text(read(page, NEW))
    audit = "entries in the audit of this connection"
    for nothing in ("runs", "changes of the last 7 days", audit):
        assert f"There are no {nothing}." in told
    assert told.count("Nothing to draw in this time.") == 4


def test_a_reader_sees_no_button_and_an_operator_does(
    web: WebApplication, page: PageClient
) -> None:
    links = re.compile(rf'href="/connections/{BUSY}/(resync|pause|resume)"')
    assert not links.findall(read(page, BUSY))
    operator = sign_in(web, Scope.READ, Scope.OPERATE)
    assert {*links.findall(read(operator, BUSY))} == {"pause", "resume", "resync"}
    retired = re.compile(r'href="/connections/\d+/(resync|pause|resume)"')
    assert not retired.findall(read(operator, RETIRED))


def test_beside_a_remedy_stand_the_pages_that_carry_it_out(
    web: WebApplication, page: PageClient
) -> None:
    operator = sign_in(web, Scope.READ, Scope.OPERATE)
    place = f"/connections/{REFUSED}/resync?resource=groups"
    body = read(operator, REFUSED, zone="local")
    assert f'href="{place}&amp;zone=local">Resync …</a>' in body
    assert 'href="#permissions">The text for the customer</a>' in body
    assert place not in read(page, REFUSED)
    chosen = read(operator, REFUSED, "/resync", resource="groups")
    assert re.findall(r'value="(\w+)" checked> (?!What)', chosen) == ["groups"]
    assert "docs/operations.md" not in body
    assert "condition permission_missing in the guide to operations" in get_text(body)


def test_a_duplicate_leads_to_the_connection_that_mirrors_its_tenant(
    web: WebApplication, page: PageClient
) -> None:
    with web.database.open_transaction() as db:
        db.execute(
            text("""
                insert into sync.connections (nango_connection_id, provider_config_key, provider,
                                              tenant_id, status)
                select 'twin', 'entra', 'microsoft', tenant_id, 'duplicate'
                  from sync.connections where id = :id
            """),
            {"id": QUIET},
        )
    web.context.fleet.invalidate()
    twin = max(web.context.fleet.get().by_id)
    assert f'href="/connections/{QUIET}">The other connection, {QUIET}</a>' in read(page, twin)
    with web.database.open_transaction() as db:
        db.execute(text("delete from sync.connections where id = :id"), {"id": twin})
    web.context.fleet.invalidate()


def test_the_text_for_a_customer_stands_once_and_says_which_setting_it_lacks(
    page: PageClient,
) -> None:
    body = read(page, REFUSED)
    assert body.count("<summary>Text for the customer") == 1
    assert body.count("adminconsent?client_id=YOUR-CLIENT-ID") == 1
    assert "or set TENANT_MIRROR_CLIENT_IDS" in get_text(body)


def test_its_domains_are_shown(web: WebApplication, page: PageClient) -> None:
    with web.database.open_transaction() as db:
        planted = "update sync.connections set domains = array['a.example', 'b.example']"
        db.execute(text(f"{planted} where id in ({QUIET}, {NEW})"))
    web.context.fleet.invalidate()
    assert "Domains a.example , b.example" in get_text(read(page, QUIET))
    found = page.get("/search", query={"q": "a.example"}).body.decode()
    assert found.count("<bdi>b.example</bdi>") == 2


def test_the_end_of_a_pause_is_in_the_chosen_zone(page: PageClient) -> None:
    told = get_text(read(page, BUSY, zone="relative"))
    panel = told.partition("Why not now?")[2].partition("Conditions")[0]
    assert "Paused by Canary Person" in panel
    assert "UTC" not in panel


def test_an_unknown_connection_is_not_found(page: PageClient) -> None:
    for part in ("", "/held", "/bundle"):
        assert page.get(f"/connections/999{part}").status == 404
    assert page.get("/connections/x").status == 404


def test_a_page_costs_few_statements_and_an_unchanged_one_fewer(
    web: WebApplication, page: PageClient
) -> None:
    path = f"/connections/{QUIET}"
    first = page.refresh(path)
    tag = first.headers["hx-ptag"]
    assert len(first.body) < 120_000
    facts = web.context.fleet.get().by_id[QUIET].facts
    looks = ConnectionLooks(web.database)
    numbers = []
    for wait in (0.0, 0.0, FRESH_SECONDS):
        time.sleep(wait)
        with count_statements(web) as statements:
            looks.get(facts)
        numbers.append(len(statements))
    assert numbers == [7, 0, 4], "with the history; of all tabs together; of a refresh"
    took = []
    for _ in range(5):
        revive_service(web.database)
        began = time.monotonic()
        assert page.refresh(path, tag).status == 304
        took.append(time.monotonic() - began)
    assert min(took) < 0.1


def test_a_run_that_has_ended_since_is_listed(web: WebApplication, page: PageClient) -> None:
    before = read(page, HOSTILE)
    with web.database.open_transaction() as db:
        run_id = db.execute(
            text("""
                insert into sync.runs (connection_id, trigger, state, started_at, finished_at)
                values (:id, 'manual', 'failed', now(), now()) returning id
            """),
            {"id": HOSTILE},
        ).scalar_one()
    web.context.forget(HOSTILE)
    after = read(page, HOSTILE)
    with web.database.open_transaction() as db:
        db.execute(text("delete from sync.runs where id = :id"), {"id": run_id})
    web.context.forget(HOSTILE)
    assert f"/runs/{run_id}" not in before
    assert f"/runs/{run_id}" in after
    assert f"/runs/{run_id}" not in read(page, HOSTILE)


def test_what_was_opened_stays_open_when_the_page_is_refreshed(page: PageClient) -> None:
    body = read(page, BUSY)
    (settings,) = re.findall(r"name=\"htmx-config\" content='([^']+)'", body)
    assert "open" in json.loads(settings)["morphIgnore"]


def test_history_is_loaded_again_only_after_something_changed(
    web: WebApplication, page: PageClient
) -> None:
    path = f"/connections/{REFUSED}"

    def look() -> bool:
        """Look again; whether the runs of the last weeks were summed up."""
        web.context.looks.invalidate(REFUSED)
        web.context.fleet.invalidate()
        with count_statements(web) as statements:
            assert page.refresh(path).status == 200
        return any("date_bin" in one for one in statements)

    look()
    assert not look()
    with web.database.open_transaction() as db:
        db.execute(
            text("update sync.leases set event_seq = event_seq + 1 where connection_id = :id"),
            {"id": REFUSED},
        )
    time.sleep(0.5)
    assert look()


def test_its_statements_read_by_an_index(web: WebApplication) -> None:
    statements = [run_history._BUCKETS.text, run_history._DRIFT.text]
    plans = []
    with web.database.open_transaction() as db:
        db.execute(text("set local enable_seqscan = off"))
        for statement in statements:
            rows = db.execute(text(f"explain {statement}"), {"id": BUSY})
            plans.append("\n".join(rows.scalars()))
        for raw in (recent_changes._COUNT, recent_changes._LIST, count_live._COUNT):
            rows = db.exec_driver_sql(f"explain {raw}", {"id": BUSY})
            plans.append("\n".join(rows.scalars()))
    for plan in plans:
        assert "Seq Scan" not in plan, plan
    assert "ix_runs_connection_id_id" in plans[0]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_a_hostile_name_is_text(web: WebApplication, page: PageClient, name: str) -> None:
    def list_tags() -> list[str]:
        web.context.fleet.invalidate()
        tags = re.findall(r"<(\w+)", read(page, HOSTILE) + read(page, HOSTILE, "/held"))
        return [one for one in tags if one != "time"]

    rename = text("update sync.connections set display_name = :name where id = :id")
    with web.database.open_transaction() as db:
        db.execute(rename, {"name": "plain", "id": HOSTILE})
    plain = list_tags()
    with web.database.open_transaction() as db:
        db.execute(rename, {"name": name, "id": HOSTILE})
    assert list_tags() == plain


def test_a_support_bundle_has_no_name_of_anybody(web: WebApplication, page: PageClient) -> None:
    reply = page.get(f"/connections/{BUSY}/bundle")
    assert reply.status == 200
    assert reply.headers["content-disposition"] == 'attachment; filename="connection-1.json"'
    body = reply.body.decode()
    bundle = json.loads(body)
    for canary in (*CANARIES, page.cookie or "no session"):
        assert canary.lower() not in body.lower()
    assert len(bundle["streams"]) == len(STREAMED)
    assert any(one["error"] == "Graph answered 503" for one in bundle["runs"])
    assert bundle["activity"]["state"] == "paused"
    assert bundle["facts"]["tenant_id"] == web.context.fleet.get().by_id[BUSY].facts.tenant_id
    assert bundle["settings"]["guard_percent"] == 20
    assert {"tenant-mirror", "python", "postgres", "schema"} <= bundle["versions"].keys()
    refused = json.loads(page.get(f"/connections/{REFUSED}/bundle").body)
    assert "permission_missing" in {one["code"] for one in refused["conditions"]}
    name = web.context.fleet.get().by_id[REFUSED].facts.name
    assert name
    assert name not in json.dumps(refused)


@pytest.mark.parametrize("nango_id", ["contoso-prod", "contoso.com", "a@b.example", "Alpine_Bank"])
def test_a_support_bundle_has_no_id_that_is_made_of_a_name(
    web: WebApplication, page: PageClient, nango_id: str
) -> None:
    change = text(
        "update sync.connections set nango_connection_id = :nango_id, "
        "display_name = 'Alpine Bank', domains = array['contoso.com'] where id = :id"
    )
    with web.database.open_transaction() as db:
        before = web.context.fleet.get().by_id[HOSTILE].facts.nango_id
        db.execute(change, {"nango_id": nango_id, "id": HOSTILE})
    web.context.fleet.invalidate()
    body = page.get(f"/connections/{HOSTILE}/bundle").body.decode()
    assert nango_id not in body
    assert "contoso" not in body
    assert json.loads(body)["facts"]["nango_id"].startswith("sha256-")
    with web.database.open_transaction() as db:
        db.execute(change, {"nango_id": before, "id": HOSTILE})
    web.context.fleet.invalidate()
    assert (
        json.loads(page.get(f"/connections/{HOSTILE}/bundle").body)["facts"]["nango_id"] == before
    )


def test_operations_on_it_are_listed_newest_first(web: WebApplication) -> None:
    with web.database.open_transaction() as db:
        assert list_connection_operations(db, QUIET, 5) == []
