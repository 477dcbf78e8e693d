"""The page of the fleet: what it shows, how it stays up to date, and what it costs."""

import re
import time
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from models.api_token import Scope
from tests.support.databases import DatabaseFactory
from tests.support.fault_proxy import FaultProxy
from tests.support.fleet import fill_fleet, revive_service
from tests.support.hostile import HOSTILE_NAMES
from tests.support.page import PageClient, sign_in
from tests.support.web import WebApplication, open_application
from worker.core.settings import load_settings
from worker.web.verify import CACHE_SECONDS

NUMBER = 2000


class Outline(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        assert not [name for name in found if name.startswith("on") or name == "style"], attrs
        if tag == "a":
            self.links.append(found["href"] or "")


@pytest.fixture(scope="module")
def web(cluster: DatabaseFactory) -> Iterator[WebApplication]:
    url = cluster.create_migrated()
    opened = open_application(load_settings(database_url=url))
    fill_fleet(opened.database, NUMBER)
    with opened.database.open_transaction() as db:  # none falls due during the tests
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


def read(page: PageClient, path: str = "/", **query: object) -> str:
    reply = page.get(path, query=query)
    assert reply.status == 200, reply.body
    return reply.body.decode()


def silence_dispatcher(web: WebApplication) -> None:
    with web.database.open_transaction() as db:
        db.execute(
            text(
                "update sync.service_state set updated_at = now() - interval '1 hour' "
                "where name = 'tick'"
            )
        )
    web.context.fleet.invalidate()


def list_ids(body: str) -> list[int]:
    return [int(one) for one in re.findall(r'<tr role="row" id="c(\d+)"', body)]


def find_next(body: str) -> str | None:
    found = re.search(r'rel="next" href="\?([^"]*)"|rel="next" href="/\?([^"]*)"', body)
    return unescape(found[1] or found[2]) if found else None


def test_the_first_page_is_quick_and_small(page: PageClient) -> None:
    read(page)
    begun = time.monotonic()
    body = read(page)
    assert time.monotonic() - begun < 0.3
    assert len(body) < 120_000
    assert "2,000" in body
    assert len(list_ids(body)) == 50


def test_links_lead_through_all_connections_once(page: PageClient) -> None:
    seen: list[int] = []
    query: str | None = "sort=name&limit=200"
    while query is not None:
        body = page.get("/", query=query).body.decode()
        seen += list_ids(body)
        query = find_next(body)
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) == NUMBER


@pytest.mark.parametrize("sort", ["id", "name", "age", "severity", "run", "rows", "next"])
def test_every_order_can_be_chosen(page: PageClient, sort: str) -> None:
    body = read(page, sort=sort)
    assert len(list_ids(body)) == 50
    assert (find_next(body) or "").startswith(f"sort={sort}&after=")


def test_an_empty_list_says_that_a_filter_hides_everything(page: PageClient) -> None:
    body = read(page, text="no customer has this name")
    assert "No connections match the filter." in body
    assert 'href="/">Clear the filter' in body


def test_an_empty_service_says_that_there_is_nothing(cluster: DatabaseFactory) -> None:
    web = open_application(load_settings(database_url=cluster.create_migrated()))
    try:
        assert "There are no connections." in read(sign_in(web, Scope.READ))
    finally:
        web.close()


def test_the_zone_stays_in_every_link(page: PageClient) -> None:
    body = read(page, zone="relative", sort="age")
    links = [one for one in Outline(body).links if one.startswith("/") and ".csv" not in one]
    without = [one for one in links if "zone=relative" not in one]
    assert sorted(without) == ["/?sort=age", "/?sort=age&zone=local"]


def test_an_unchanged_page_answers_with_304(web: WebApplication, page: PageClient) -> None:
    with web.database.open_transaction() as db:  # none falls due meanwhile, which is a change
        db.execute(text("update sync.connections set due_at = due_at + interval '1 day'"))
    web.context.fleet.invalidate()
    first = page.refresh("/", None, query={"sort": "name"})
    assert first.status == 200
    assert b"<html" not in first.body
    tag = first.headers["hx-ptag"]
    for _ in range(3):
        revive_service(web.database)
        time.sleep(1.1)
        web.context.fleet.get()
        again = page.refresh("/", tag, query={"sort": "name"})
        assert (again.status, again.body, again.headers["hx-ptag"]) == (304, b"", tag)
        assert sum(len(k) + len(v) + 4 for k, v in again.headers.items()) < 1000
    assert page.refresh("/", tag, query={"sort": "id"}).status == 200


def test_a_change_is_shown_with_the_next_refresh(web: WebApplication, page: PageClient) -> None:
    first = page.refresh("/", query={"text": "7"})
    with web.database.open_transaction() as db:
        db.execute(text("update sync.connections set display_name = 'Changed 7' where id = 7"))
    web.context.fleet.invalidate()
    again = page.refresh("/", first.headers["hx-ptag"], query={"text": "7"})
    assert again.status == 200
    assert b"Changed 7" in again.body


def read_row(body: str, number: int) -> str:
    return body.partition(f'id="c{number}"')[2].partition("</tr>")[0]


def test_the_badge_is_the_sum_of_the_totals(web: WebApplication, page: PageClient) -> None:
    silence_dispatcher(web)
    body = read(page)
    assert "wait for the service" in body
    totals = body.partition('<p class="totals">')[2].partition("</p>")[0]
    numbers = [int(one) for one in re.findall(r"<strong>(\d+)</strong>", totals)[:2]]
    badge = re.search(r'class="badge">(\d+)', body)
    assert "condition of the service" in totals
    assert badge is not None
    assert int(badge[1]) == sum(numbers)


def test_what_waits_for_the_service_is_not_shown_as_well(
    web: WebApplication, page: PageClient
) -> None:
    silence_dispatcher(web)
    body = read(page, sort="id")
    row = read_row(body, 9)
    assert "waits: dispatcher silent" in row
    assert "mark well" not in row
    connection = page.get("/connections/9").body.decode()
    assert "waits: dispatcher silent" in connection.partition('class="totals"')[2][:600]


def test_an_age_has_the_limit_from_which_it_is_late(web: WebApplication, page: PageClient) -> None:
    body = read(page, sort="id")
    assert re.search(r"<small class=\"line\">[a-z ]+, limit \d+ \w+</small>", read_row(body, 9))
    with web.database.open_transaction() as db:
        db.execute(
            text(
                "update sync.streams set fresh_at = now() - interval '2 days' "
                "where connection_id = 11"
            )
        )
    web.context.fleet.invalidate()
    late, other = (read_row(read(page, sort="id"), number) for number in (11, 12))
    assert "> late</span>" in late
    assert "> late</span>" not in other


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_a_hostile_name_is_text(web: WebApplication, page: PageClient, name: str) -> None:
    with web.database.open_transaction() as db:
        db.execute(
            text("update sync.connections set display_name = :name where id = 5"), {"name": name}
        )
    web.context.fleet.invalidate()
    plain = Outline(read(page, text="no such"))
    body = read(page, text="5", sort="id")
    assert 5 in list_ids(body)
    assert "img" not in Outline(body).tags
    assert Outline(body).tags.count("script") == plain.tags.count("script")


def test_without_its_database_the_page_tells_what_it_remembers(cluster: DatabaseFactory) -> None:
    url = cluster.create_migrated()
    place = urlsplit(url)
    assert place.hostname is not None
    with FaultProxy(place.hostname, place.port or 5432) as proxy:
        proxied = place._replace(netloc=place.netloc.rsplit(":", 1)[0] + f":{proxy.port}")
        web = open_application(load_settings(database_url=proxied.geturl()))
        fill_fleet(web.database, 3)
        page = sign_in(web, Scope.READ)
        assert page.get("/").status == 200
        proxy.refuse()
        proxy.drop()
        time.sleep(CACHE_SECONDS)
        deadline = time.monotonic() + 20
        while (reply := page.get("/")).status == 200 and time.monotonic() < deadline:
            time.sleep(0.2)  # a look that is a few seconds old is used while the next is loaded
        body = reply.body.decode()
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert "the database cannot serve this request now" in body
        assert "3 connections" in body
        assert "As it was" in body
        assert "Traceback" not in body
        assert page.refresh("/").status == 503
        stranger = PageClient(web.client, "A" * 43).get("/")
        assert (stranger.status, b"connections" in stranger.body) == (503, False)
        assert PageClient(web.client).get("/").status == 303
        assert page.post("/sign-out").status == 503
        proxy.heal()
        web.close()
    cluster.drop(url)
