"""Calls that leave before the page ahead of them is here: soon, and never believed."""

import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from models.run import RunState, RunTrigger
from sandbox.tenant import Request, Response, Tenant
from sandbox.tenant.graph.service import GraphService
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar
from worker.sync.report import SyncReport
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources

STALE = "https://graph.microsoft.com/v1.0/users?$skiptoken=stale"
Change = Callable[[Response, int], Response]


class SimulatedKill(BaseException):  # not an Exception: no code may handle the end of its process
    """The process dies here."""


class Listing:
    """Answers the list of users as Graph does, but for what a test makes of it."""

    def __init__(self, mirror: Mirror, change: Change) -> None:
        self._tenant, self._change = mirror.tenant, change
        self.asked: list[str] = []
        self.at: list[float] = []
        mirror.nango.before_graph = self._answer

    def _answer(self, request: Request) -> Response | None:
        if not request.path.endswith("/users"):
            return None
        self.asked.append(request.query)
        self.at.append(time.monotonic())
        if "stale" in request.query:
            nobody = {**next(iter(self._tenant.iterate_live("users"))), "displayName": "Nobody"}
            return Response(200, json.dumps({"value": [nobody]}).encode(), {"request-id": "x"})
        return self._change(GraphService().handle(self._tenant, request), len(self.asked))


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    return make_mirror(Tenant(seed=31, users=3500, groups=2))


def test_the_next_call_leaves_while_a_page_is_still_arriving(mirror: Mirror) -> None:
    slow = 0.4
    listing = Listing(
        mirror, lambda page, at: replace(page, trickle_delay=slow if at == 1 else 0.0)
    )
    assert mirror.sync("users").state is RunState.SUCCEEDED
    assert listing.at[1] - listing.at[0] < 5 * slow, "the page itself takes 8 times that"
    assert mirror.nango.calls.graph["users"] == 4
    assert_exact_users(mirror)


def test_a_link_at_the_end_of_a_page_is_followed_as_well(mirror: Mirror) -> None:
    def turn(page: Response, _at: int) -> Response:
        content = json.loads(page.body)
        link = content.pop("@odata.nextLink", None)
        if link is not None:
            content["@odata.nextLink"] = link
        return replace(page, body=json.dumps(content).encode())

    listing = Listing(mirror, turn)
    assert mirror.sync("users").state is RunState.SUCCEEDED
    assert len(listing.asked) == len(set(listing.asked)) == 4
    assert_exact_users(mirror)


def test_the_page_behind_one_that_broke_off_is_asked_for_once(mirror: Mirror) -> None:
    listing = Listing(
        mirror, lambda page, at: replace(page, cut_after=100_000) if at == 1 else page
    )
    assert mirror.sync("users").state is RunState.SUCCEEDED
    assert len(listing.asked) == 5, "the first page twice, the others once"
    assert len(set(listing.asked)) == 4
    assert_exact_users(mirror)


def test_what_a_page_that_broke_off_led_to_is_dropped_unread(mirror: Mirror) -> None:
    def mislead(page: Response, at: int) -> Response:
        if at != 1:
            return page
        link = json.loads(page.body)["@odata.nextLink"]
        return replace(
            page, body=page.body.replace(link.encode(), STALE.encode()), cut_after=100_000
        )

    listing = Listing(mirror, mislead)
    report = mirror.sync("users")
    assert report.state is RunState.SUCCEEDED
    assert sum("stale" in query for query in listing.asked) == 1
    assert report.calls == mirror.nango.calls.total, "what was dropped has been counted"
    assert_exact_users(mirror)


def test_a_page_that_never_comes_whole_commits_nothing_behind_it(mirror: Mirror) -> None:
    Listing(mirror, lambda page, at: page if at == 1 else replace(page, cut_after=100_000))
    assert mirror.sync("users").state is RunState.PARTIAL
    assert fetch_scalar(mirror.database, "select count(*) from directory.users") == 999
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_a_slice_that_is_over_asks_for_no_page_ahead(mirror: Mirror) -> None:
    listing = Listing(mirror, lambda page, _at: page)
    reports = [a_slice(mirror)]
    while reports[-1].state is RunState.RUNNING:
        reports.append(a_slice(mirror))
    assert len(listing.asked) == len(set(listing.asked)) == 4
    assert sum(report.calls for report in reports) == mirror.nango.calls.total
    assert_exact(mirror.database, mirror.tenant)


def test_the_round_behind_a_first_load_costs_one_call(mirror: Mirror) -> None:
    assert mirror.sync("users").calls == 4 + 2
    assert mirror.nango.calls.graph["users/delta"] == 2, "the token, and the round"


def test_a_round_is_asked_for_after_all_that_a_sweep_asks(mirror: Mirror) -> None:
    """A user goes away between two walks of a first load; more changes when that is confirmed."""

    def die(resource: str, *_: object) -> None:
        if resource == "users":
            raise SimulatedKill

    with pytest.raises(SimulatedKill):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, on_progress=die)
    tenant = mirror.tenant
    gone, other = tenant.users.id_at(3), tenant.users.id_at(5)
    tenant.delete_user(gone)
    tenant.expire_page_tokens()

    def rename(request: Request) -> None:
        if gone in request.target:
            tenant.update_user(other, displayName="Renamed meanwhile")

    mirror.nango.before_graph = rename
    assert mirror.sync().state is RunState.SUCCEEDED
    name = "select display_name from directory.users where id = cast(:id as uuid)"
    assert fetch_scalar(mirror.database, name, id=other) == "Renamed meanwhile"
    assert_exact(mirror.database, tenant)


def a_slice(mirror: Mirror) -> SyncReport:
    return run_slice(mirror.runtime, mirror.connection_id, trigger=RunTrigger.BACKFILL, seconds=0.0)


def assert_exact_users(mirror: Mirror) -> None:
    """The rest of the tenant comes with another sync."""
    mirror.nango.before_graph = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
