"""Lists of the page as CSV: all that match, filtered as the page is, and bounded."""

import csv
import io
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from sqlalchemy import text

from models.api_token import Scope
from models.audit import AuditOutcome, Via
from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from tests.support.page import PageClient, sign_in
from tests.support.web import WebApplication, open_application
from worker.core.settings import load_settings
from worker.page.csv_text import MAX_ROWS
from worker.store.service.audit import Actor, record_audit

NUMBER = 1100
RUNS = 10


@pytest.fixture(scope="module")
def web(cluster: DatabaseFactory) -> Iterator[WebApplication]:
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url))
    fill_fleet(opened.database, NUMBER, runs=RUNS)
    with opened.database.open_transaction() as db:
        db.execute(text("update sync.connections set due_at = due_at + interval '1 day'"))
        db.execute(text("update sync.connections set display_name = '=1+1,\"x\"' where id = 7"))
        db.execute(text("update sync.runs set state = 'failed', error = 'no' where id % 11 = 0"))
        for number in range(30):
            actor = Actor("ann" if number % 3 else "+robot", Via.API)
            record_audit(db, actor, "resync", AuditOutcome.DONE, connection_id=1 + number)
    yield opened
    opened.close()
    cluster.drop(url)


@pytest.fixture
def page(web: WebApplication) -> PageClient:
    revive_service(web.database)
    return sign_in(web, Scope.READ)


def export(page: PageClient, path: str, **query: Any) -> list[dict[str, str]]:
    reply = page.get(path, query=query)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    name = path.removeprefix("/")
    assert reply.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert reply.headers["cache-control"] == "no-store"
    assert "content-length" not in reply.headers, "it is sent in parts"
    return list(csv.DictReader(io.StringIO(reply.body.decode("utf-8-sig"), newline="")))


def test_all_connections_that_match_are_exported_in_the_order_of_the_page(
    page: PageClient,
) -> None:
    everything = export(page, "/connections.csv", sort="name")
    assert len(everything) == NUMBER
    names = [one["organization"].casefold().lstrip("'") for one in everything]
    assert names == sorted(names)
    some = export(page, "/connections.csv", text="Alpine", sort="id")
    assert {one["organization"].split()[0] for one in some} == {"Alpine"}
    ids = [int(one["id"]) for one in some]
    assert ids == sorted(ids)
    assert {one["severity"] for one in some} == {"well", "error"}
    assert {one["conditions"] for one in some} == {"", "sync_failing"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", some[0]["oldest_data_at"])


def test_a_name_that_would_be_a_formula_is_text(page: PageClient) -> None:
    (seven,) = export(page, "/connections.csv", text="=1+1")
    assert (seven["id"], seven["organization"]) == ("7", '\'=1+1,"x"')
    (run, *_) = export(page, "/runs.csv", connection=7)
    assert run["organization"] == seven["organization"]
    assert {one["actor"] for one in export(page, "/audit.csv")} == {"ann", "'+robot"}


def test_runs_are_exported_newest_first_up_to_a_bound(
    web: WebApplication, page: PageClient
) -> None:
    found = [int(one["run_id"]) for one in export(page, "/runs.csv")]
    with web.database.open_transaction() as db:
        newest = db.execute(text(f"select id from sync.runs order by id desc limit {MAX_ROWS}"))
        assert found == list(newest.scalars())
    failed = export(page, "/runs.csv", state="failed")
    assert len(failed) == NUMBER * RUNS // 11
    assert {(one["state"], one["why"]) for one in failed} == {("failed", "no")}
    assert export(page, "/runs.csv", until="2001-01-01") == []


def test_the_audit_is_exported_as_filtered(page: PageClient) -> None:
    found = export(page, "/audit.csv", actor="ann")
    assert len(found) == 20
    assert {one["outcome"] for one in found} == {"requested"}
    assert len({one["entry_id"] for one in found}) == 20


@pytest.mark.parametrize(
    ("path", "query", "file"),
    [
        (
            "/",
            {"text": "Alpine", "sort": "name", "limit": 10},
            "/connections.csv?text=Alpine&sort=name",
        ),
        ("/runs", {"state": "failed", "zone": "local"}, "/runs.csv?state=failed"),
        ("/audit", {"actor": "ann", "limit": 5}, "/audit.csv?actor=ann"),
    ],
)
def test_each_list_links_to_its_file_with_the_same_filter(
    page: PageClient, path: str, query: dict[str, Any], file: str
) -> None:
    body = page.get(path, query=query).body.decode()
    (link,) = re.findall(r'href="([^"]*\.csv[^"]*)" download', body)
    assert unescape(link) == file
    assert page.get(file.partition("?")[0], query=file.partition("?")[2]).status == 200
    assert f"at most {MAX_ROWS:,} rows" in body


def test_a_filter_that_cannot_be_is_refused_in_words(page: PageClient) -> None:
    reply = page.get("/runs.csv", query={"state": "gone"})
    assert reply.status == 422
    assert b"<h1>" in reply.body


def test_nobody_exports_without_a_sign_in(web: WebApplication) -> None:
    for path in ("/connections.csv", "/runs.csv", "/audit.csv"):
        assert PageClient(web.client).get(path).status == 303
