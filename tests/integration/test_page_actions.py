"""Acting on the page: bulk actions with their preview, operations, and the search box."""

import html
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from models.api_token import Scope
from models.audit import audit
from models.operation import operations
from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from tests.support.page import PageClient, sign_in
from tests.support.web import WebApplication, WebReply, open_application
from worker.core.settings import load_settings

NUMBER = 60


@pytest.fixture(scope="module")
def web(cluster: DatabaseFactory) -> Iterator[WebApplication]:
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url))
    fill_fleet(opened.database, NUMBER)
    with opened.database.open_transaction() as db:
        db.execute(text("update sync.connections set display_name = 'Only One' where id = 9"))
    yield opened
    opened.close()
    cluster.drop(url)


@pytest.fixture(scope="module")
def page(web: WebApplication) -> PageClient:
    return sign_in(web, Scope.READ, Scope.OPERATE)


@pytest.fixture(scope="module")
def reader(web: WebApplication) -> PageClient:
    return sign_in(web, Scope.READ)


@pytest.fixture(autouse=True)
def _alive(web: WebApplication) -> None:
    revive_service(web.database)


def read_form(reply: WebReply, action: str) -> list[tuple[str, str]]:
    """The hidden fields of the form that posts to ``action``."""
    body = reply.body.decode()
    form = re.search(rf'<form method="post" action="{action}">(.*?)</form>', body, re.DOTALL)
    assert form is not None, body
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form[1])
    return [(name, html.unescape(value)) for name, value in found]


def count_operations(web: WebApplication) -> int:
    with web.database.open_transaction() as db:
        return len(db.execute(operations.select()).all())


def test_a_selection_is_previewed_with_its_price_and_then_submitted(
    web: WebApplication, page: PageClient
) -> None:
    before = count_operations(web)
    shown = page.get("/bulk", query="action=resync_full&scope=selected&id=3&id=4&id=5")
    assert shown.status == 200
    assert "about 3" in shown.body.decode(), "calls to Nango, one for each by its last run"
    assert count_operations(web) == before, "a preview does nothing"
    done = page.post("/bulk", read_form(shown, "/bulk"))
    assert done.status == 303
    place = done.headers["location"]
    operation = page.get(place).body.decode()
    assert "Resync in full" in operation
    assert "0 of 3 requested" in operation
    with web.database.open_transaction() as db:
        entry = db.execute(audit.select().order_by(audit.c.id.desc()).limit(1)).one()
    assert (entry.via, entry.action, entry.outcome) == ("page", "resync", "accepted")
    assert entry.parameters["filter"] == {"ids": [3, 4, 5]}


def test_all_that_match_are_meant_on_every_page_of_the_list(
    web: WebApplication, page: PageClient
) -> None:
    shown = page.get("/bulk", query="action=pause&scope=matching&status=active&sort=name")
    assert shown.status == 422, "the order of a list is no part of it"
    shown = page.get("/bulk", query="action=pause&scope=matching&status=active")
    assert f"<strong>{NUMBER}</strong> connections" in shown.body.decode()
    assert f"and {NUMBER - 12} more" in shown.body.decode()
    assert '<a href="/?status=active">list all that match</a>' in shown.body.decode()
    assert '<a href="/?status=active">Back to the fleet</a>' in shown.body.decode()
    assert page.post("/bulk", read_form(shown, "/bulk")).status == 422, "it has no reason"
    fields = [*read_form(shown, "/bulk"), ("reason", "maintenance"), ("hours", "2")]
    done = page.post("/bulk", fields)
    with web.database.open_transaction() as db:
        (latest,) = db.execute(operations.select().order_by(operations.c.id.desc()).limit(1)).all()
    assert done.headers["location"] == f"/operations/{latest.id}"
    assert (latest.action, latest.targets) == ("pause", NUMBER)
    assert latest.parameters["reason"] == "maintenance"
    assert latest.parameters["until"] is not None


def test_the_search_and_a_bulk_action_keep_the_zone(page: PageClient) -> None:
    found = page.get("/search", query={"q": "Only One", "zone": "relative"})
    assert found.headers["location"] == "/connections/9?zone=relative"
    fleet = page.get("/", query={"zone": "local"}).body.decode()
    assert fleet.count('<input type="hidden" name="zone" value="local">') == 3
    shown = page.get("/bulk", query="action=resume&id=3&zone=local")
    place = "/bulk?zone=local"
    done = page.post(place, read_form(shown, re.escape(place)))
    assert done.headers["location"].endswith("?zone=local")


def test_a_form_that_is_sent_twice_acts_once(web: WebApplication, page: PageClient) -> None:
    fields = read_form(page.get("/bulk", query="action=resume&id=3"), "/bulk")
    before = count_operations(web)
    places = {page.post("/bulk", fields).headers["location"] for _ in range(2)}
    assert (len(places), count_operations(web)) == (1, before + 1)


def test_nothing_is_done_if_other_connections_match_now(
    web: WebApplication, page: PageClient
) -> None:
    fields = dict(read_form(page.get("/bulk", query="action=resume&scope=matching"), "/bulk"))
    before = count_operations(web)
    refused = page.post("/bulk", fields | {"expected_count": str(NUMBER - 1)})
    assert refused.status == 409
    assert "connections match now" in refused.body.decode()
    assert count_operations(web) == before


def test_an_empty_selection_says_so(page: PageClient) -> None:
    assert "No connection is selected" in page.get("/bulk", query="action=pause").body.decode()


def test_a_reader_sees_no_buttons_and_cannot_act_by_hand(
    web: WebApplication, page: PageClient, reader: PageClient
) -> None:
    assert 'action="/bulk"' in page.get("/").body.decode()
    assert 'action="/bulk"' not in reader.get("/").body.decode()
    fields = read_form(page.get("/bulk", query="action=pause&id=3"), "/bulk")
    before = count_operations(web)
    assert reader.post("/bulk", fields).status == 403
    assert reader.get("/bulk", query="action=pause&id=3").status == 403
    assert count_operations(web) == before


def test_a_waiting_operation_can_be_cancelled_and_says_so(page: PageClient) -> None:
    fields = read_form(page.get("/bulk", query="action=resume&id=8"), "/bulk")
    place = page.post("/bulk", fields).headers["location"]
    assert f'action="{place}/cancel"' in page.get(place).body.decode()
    assert page.post(f"{place}/cancel").headers["location"] == place
    shown = page.get(place).body.decode()
    assert "cancelled by" in shown
    assert f'action="{place}/cancel"' not in shown
    listed = page.get("/operations", query={"state": "cancelled"}).body.decode()
    assert f'href="{place}"' in listed


@pytest.mark.parametrize("asked", ["Only One", "only one", " only one "])
def test_a_name_leads_to_its_connection(page: PageClient, asked: str) -> None:
    found = page.get("/search", query={"q": asked})
    assert (found.status, found.headers["location"]) == (303, "/connections/9")


def test_every_id_of_a_connection_leads_to_it(web: WebApplication, page: PageClient) -> None:
    with web.database.open_transaction() as db:
        row = db.execute(
            text("select nango_connection_id, tenant_id::text from sync.connections where id = 9")
        ).one()
    for asked in (row[0], f"entra/{row[0]}", row[1], row[1].upper()):
        found = page.get("/search", query={"q": asked})
        assert found.headers["location"] == "/connections/9", asked


def test_a_number_that_may_be_a_connection_or_a_run_lists_both(page: PageClient) -> None:
    body = page.get("/search", query={"q": "9"}).body.decode()
    assert 'href="/runs/9"' in body
    assert 'href="/connections/9"' in body


def test_the_number_of_a_run_leads_to_it(page: PageClient) -> None:
    found = page.get("/search", query={"q": str(NUMBER * 3)})
    assert found.headers["location"] == f"/runs/{NUMBER * 3}"


def test_a_part_of_many_names_lists_them(page: PageClient) -> None:
    body = page.get("/search", query={"q": "alpine"}).body.decode()
    assert body.count('<tr role="row" id="c') > 1


def test_a_domain_leads_to_its_owner(web: WebApplication, page: PageClient) -> None:
    with web.database.open_transaction() as db:
        db.execute(
            text("update sync.connections set domains = array['eleven.example'] where id = 11")
        )
    web.context.fleet.invalidate()
    found = page.get("/search", query={"q": "Eleven.example"})
    assert found.headers.get("location") == "/connections/11"


def test_what_nobody_has_is_said_to_be_unknown(page: PageClient) -> None:
    found = page.get("/search", query={"q": "<b>nobody</b>"})
    assert (found.status, b"Nothing is known by that name" in found.body) == (200, True)
    assert b"<b>nobody" not in found.body
