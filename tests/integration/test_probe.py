"""A probe asks little, asks it once, and tells how a tenant differs from what we assume."""

import json
from collections.abc import Callable, Iterator

import pytest

from models.resource import Resource
from models.resources import EDGES_IN, STREAMED
from sandbox.tenant import Nango, Request, Response, Server, Tenant, TenantOptions
from worker.graph.throttle import GraphThrottle
from worker.nango.client import ConnectionRef, NangoClient, RetryPolicy
from worker.probe.answers import MAX_SINGLE_CALLS, ProbeAnswers, ProbeCall, StopReason
from worker.probe.cross_tenant import MAX_CROSS_TENANT_CALLS, send_across_tenants
from worker.probe.findings import Finding, Verdict
from worker.probe.further import FURTHER, list_further_requests
from worker.probe.report import ProbeOutcome, decide_outcome, run_checks
from worker.probe.requests import run_probe
from worker.probe.scope import ProbeScope

GRAPH = {"content-type": "application/json", "request-id": "simulated"}


LINK = "https://graph.microsoft.com/v1.0/users/delta?token="


class Asker:
    """Probes a tenant and keeps what was asked."""

    def __init__(self, nango: Nango, client: NangoClient) -> None:
        self.nango, self.client = nango, client
        self.told: list[str] = []
        self.answers = ProbeAnswers()
        self.findings: list[Finding] = []

    def __call__(
        self, tenant: Tenant, known: str | None = None, scope: ProbeScope | None = None
    ) -> "Asker":
        self.nango.add_connection("contoso", tenant)
        self.nango.log.clear()
        self.told.clear()
        address = ConnectionRef("contoso", "entra")
        self.answers = run_probe(
            self.client, address, known, lambda asked, _: self.told.append(asked), scope
        )
        self.findings = run_checks(self.answers)
        return self

    @property
    def outcome(self) -> ProbeOutcome:
        return decide_outcome(self.answers, self.findings)

    def verdict(self, name: str) -> Verdict:
        return self.finding(name).verdict

    def finding(self, name: str) -> Finding:
        return next(found for found in self.findings if found.name == name)

    def failing(self) -> set[str]:
        return {found.name for found in self.findings if found.verdict is Verdict.FAILS}


@pytest.fixture
def ask(nango: Nango, nango_server: Server) -> Iterator[Asker]:
    client = NangoClient(
        nango_server.url, nango.key, throttle=GraphThrottle(), retry_policy=RetryPolicy(5.0, 1.0)
    )
    yield Asker(nango, client)
    client.close()


ALWAYS = {"Nango tells its limit"}
"""The server that all tests share has none."""


def test_a_tenant_that_is_as_assumed(ask: Asker) -> None:
    tenant = Tenant(seed=41, users=1100, groups=230, sites=8)
    assert ask(tenant, tenant.tenant_id).outcome is ProbeOutcome.YES
    assert ask.failing() == ALWAYS
    unknown = {found.name for found in ask.findings if found.verdict is Verdict.UNKNOWN}
    assert unknown == set()
    assert len(ask.nango.log) == ask.client.calls == len(ask.told) == 12


def test_only_reads_are_sent(ask: Asker) -> None:
    ask(Tenant(seed=41, users=1100, groups=230))
    for logged in ask.nango.log:
        if logged.request.method == "POST":
            assert logged.request.path == "/proxy/v1.0/$batch"
            items = json.loads(logged.request.body)["requests"]
            assert {item["method"] for item in items} == {"GET"}
        else:
            assert logged.request.method == "GET"


def test_a_tenant_that_differs_wherever_it_can_is_asked_no_more_than_said(ask: Asker) -> None:
    """Every way round is asked for, too."""
    knobs = TenantOptions(
        batch_error_status=400,
        refuse_get_all_sites=True,
        requires_role_filter=True,
    )
    tenant = Tenant(seed=41, users=2500, groups=30, options=knobs)
    refusal = answer({"error": {"code": "UnsupportedTenant", "message": "no"}}, 400)

    def odd(request: Request) -> Response | None:
        """No delta of groups, and a delta link of users on the second page only."""
        if request.path == "v1.0/groups/delta":
            return refusal
        if "$deltatoken=latest" in request.query:
            return answer({"value": [], "@odata.nextLink": f"{LINK}2"})
        if request.query == "token=2":
            return answer({"value": [], "@odata.deltaLink": f"{LINK}3"})
        return (
            answer({"value": [], "@odata.deltaLink": f"{LINK}4"}) if "=3" in request.query else None
        )

    ask.nango.before_graph = odd
    assert ask(tenant).outcome is ProbeOutcome.YES
    assert ask.client.calls == len(ask.nango.log) == MAX_SINGLE_CALLS
    assert ask.answers.stop_reason is None
    assert ask.failing() - ALWAYS == {
        "$batch is accepted",
        "groups/delta brings groups",
        "all sites are listed",
        "role assignments are listed without a filter",
        "no permission is missing",
    }
    for name in (
        "groups are listed",
        "the members of a group are listed",
        "sites are found by search",
        "role assignments are listed by role definition",
    ):
        assert ask.verdict(name) is Verdict.HOLDS
    assert "falls back to single calls" in ask.finding("$batch is accepted").does
    assert "after 2 pages" in ask.finding("users/delta starts from now").seen


def answer(body: object, status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, json.dumps(body).encode(), GRAPH | named)


@pytest.mark.parametrize(
    ("resource", "permission", "name"),
    [
        ("organization", "Organization.Read.All", "the organization can be read"),
        ("users", "User.Read.All", "users are listed with all our properties"),
        ("groups", "Group.Read.All", "groups/delta brings groups"),
        ("sites", "Sites.Read.All", "sites are found by search"),
        ("role_definitions", "RoleManagement.Read.Directory", "role definitions are listed"),
        (
            "role_assignments",
            "RoleManagement.Read.Directory",
            "role assignments are listed without a filter",
        ),
    ],
)
def test_a_missing_permission_is_named(
    ask: Asker, resource: str, permission: str, name: str
) -> None:
    ask(Tenant(seed=41, users=5, groups=2, options=TenantOptions(refused_resources={resource})))
    assert ask.outcome is ProbeOutcome.NO
    assert ask.verdict(name) is Verdict.FAILS
    assert permission in ask.finding(name).does
    assert permission in ask.finding("no permission is missing").does
    assert ask.verdict("role definitions are listed") is (
        Verdict.FAILS if resource == "role_definitions" else Verdict.HOLDS
    ), "one refusal does not end the probe"


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ("role_definitions", "role definitions are listed"),
        ("role_assignments", "role assignments are listed without a filter"),
    ],
)
def test_a_tenant_without_a_licence_lacks_nothing_that_can_be_granted(
    ask: Asker, resource: str, name: str
) -> None:
    ask(Tenant(seed=41, users=5, groups=2, options=TenantOptions(unlicensed_resources={resource})))
    assert ask.outcome is ProbeOutcome.YES
    assert ask.verdict(name) is Verdict.FAILS
    assert ask.finding(name).seen == "status 400 AadPremiumLicenseRequired"
    assert "no licence" in ask.finding(name).does
    assert ask.verdict("no permission is missing") is Verdict.HOLDS
    assert ProbeCall.FILTERED not in ask.told


def test_a_permission_that_a_message_names_within_is_missing(ask: Asker) -> None:
    options = TenantOptions(ungranted_resources={"role_assignments"})
    ask(Tenant(seed=41, users=5, groups=2, options=options))
    assert ask.outcome is ProbeOutcome.NO
    found = ask.finding("role assignments are listed without a filter")
    assert found.seen == "status 403 PermissionScopeNotGranted"
    assert "grant RoleManagement.Read.Directory" in found.does


@pytest.mark.parametrize("resource", FURTHER, ids=lambda one: one.name)
def test_a_further_resource_is_read_with_all_that_we_select(ask: Asker, resource: Resource) -> None:
    ask(Tenant(seed=41, users=5, groups=2))
    assert ask.verdict(f"{name_plainly(resource)} can be read") is Verdict.HOLDS
    item = ask.answers.items[resource.name]
    assert (item.status, item.was_sent) == (200, True)


@pytest.mark.parametrize("resource", FURTHER, ids=lambda one: one.name)
def test_a_further_resource_without_its_permission_names_it(ask: Asker, resource: Resource) -> None:
    options = TenantOptions(ungranted_resources={resource.name})
    ask(Tenant(seed=41, users=5, groups=2, options=options))
    found = ask.finding(f"{name_plainly(resource)} can be read")
    assert (found.verdict, found.needed) == (Verdict.FAILS, True)
    assert f"grant {resource.permission}" in found.does
    assert resource.permission in ask.finding("no permission is missing").does
    assert ask.outcome is ProbeOutcome.NO


@pytest.mark.parametrize("resource", FURTHER, ids=lambda one: one.name)
def test_a_further_resource_without_a_licence_is_not_needed(ask: Asker, resource: Resource) -> None:
    options = TenantOptions(unlicensed_resources={resource.name})
    ask(Tenant(seed=41, users=5, groups=2, options=options))
    found = ask.finding(f"{name_plainly(resource)} can be read")
    assert (found.verdict, found.needed) == (Verdict.FAILS, False)
    assert "no licence" in found.does
    assert ask.outcome is ProbeOutcome.YES


def name_plainly(resource: Resource) -> str:
    return resource.name.replace("_", " ")


def change_last_batch(
    ask: Asker, change: Callable[[list[dict[str, object]]], list[dict[str, object]]]
) -> None:
    """Let Nango change the items of the second ``$batch`` of a probe, in which all further are."""
    graph, calls = ask.nango.before_graph, 0

    def answer_batch(request: Request) -> Response | None:
        nonlocal calls
        calls += request.path.endswith("$batch")
        if calls < 2 or not request.path.endswith("$batch"):
            return graph(request) if graph else None
        asked = json.loads(request.body)["requests"]
        return answer({"responses": change([{"id": one["id"]} for one in asked])})

    ask.nango.before_graph = answer_batch


def test_an_item_that_is_left_out_does_not_hold_and_the_others_do(ask: Asker) -> None:
    page = {"status": 200, "body": {"value": []}}
    change_last_batch(ask, lambda items: [one | page for one in items[:-1]])
    ask(Tenant(seed=41, users=5, groups=2))
    *answered, missing = [
        ask.answers.items[one.name] for one in list_further_requests(ProbeScope())
    ]
    assert [one.is_success for one in answered] == [True] * len(answered)
    assert not missing.is_success


def test_an_item_that_is_throttled_ends_the_probe_with_what_is_known(ask: Asker) -> None:
    busy = {"status": 429, "headers": {"Retry-After": "9"}, "body": {"error": {"code": "Busy"}}}
    change_last_batch(ask, lambda items: [one | busy for one in items])
    ask(Tenant(seed=41, users=5, groups=2))
    assert ask.answers.stop_reason is StopReason.THROTTLED
    assert ask.outcome is ProbeOutcome.UNKNOWN
    assert ask.verdict("users are listed with all our properties") is Verdict.HOLDS


@pytest.mark.parametrize("resource", STREAMED, ids=lambda one: one.name)
def test_nothing_is_asked_or_judged_of_a_resource_that_is_off(
    ask: Asker, resource: Resource
) -> None:
    path = path_of(resource)
    alike = {one.name for one in STREAMED if path_of(one) == path}
    off = alike | {edge.name for one in alike for edge in EDGES_IN[one]}
    options = TenantOptions(refused_resources=alike)
    scope = ProbeScope(off=frozenset(off))
    ask(Tenant(seed=41, users=5, groups=2, options=options), scope=scope)
    assert ask.outcome is ProbeOutcome.YES
    asked, own = list_targets(ask.nango), path.strip("/")
    assert not [one for one in asked if f"{one}/".startswith(f"{own}/")]


def path_of(resource: Resource) -> str:
    """What a probe asks for: of lists below other objects one that every tenant has."""
    below = resource.source.below
    return below.probe_path if below else resource.source.path


def test_what_needs_another_resource_that_is_off_is_not_asked_for(ask: Asker) -> None:
    ask(Tenant(seed=41, users=5, groups=2), scope=ProbeScope(off=frozenset({"service_principals"})))
    found = ask.finding("other app role assignments can be read")
    assert (found.verdict, found.needed) == (Verdict.UNKNOWN, False)
    assert found.seen == "not asked: service_principals is off"
    assert "until service_principals is switched on" in found.does
    assert "other_app_role_assignments" not in ask.answers.items


def list_targets(nango: Nango) -> list[str]:
    """The paths that were asked for, alone or in a ``$batch``."""
    found = []
    for logged in nango.log:
        if logged.request.method == "POST":
            found += [one["url"] for one in json.loads(logged.request.body)["requests"]]
        else:
            found.append(logged.request.target.removeprefix("/proxy/"))
    return [one.partition("?")[0].strip("/").removeprefix("v1.0/") for one in found]


def test_a_property_that_is_left_out_is_not_asked_for(ask: Asker) -> None:
    scope = ProbeScope(left_out={"users": ["mobilePhone"], "groups": ["members"]})
    ask(Tenant(seed=41, users=5, groups=2), scope=scope)
    assert ask.outcome is ProbeOutcome.YES
    for logged in ask.nango.log:
        body = logged.request.body.decode()
        assert "mobilePhone" not in logged.request.target + body
    assert "mobile_phone" not in ask.finding("every property that we select is sent").seen


def test_a_tenant_without_delta_for_users_can_be_mirrored(ask: Asker) -> None:
    refusal = answer({"error": {"code": "UnsupportedTenant", "message": "no"}}, 400)
    ask.nango.before_graph = lambda asked: refusal if asked.path.endswith("users/delta") else None
    ask(Tenant(seed=41, users=5, groups=2))
    assert ask.outcome is ProbeOutcome.YES
    assert "whole list" in ask.finding("users/delta starts from now").does
    assert ask.finding("users/delta starts from now").seen == "status 400 UnsupportedTenant"


def test_a_tenant_without_delta_for_groups_can_be_mirrored(ask: Asker) -> None:
    refusal = answer({"error": {"code": "UnsupportedTenant", "message": "no"}}, 501)
    ask.nango.before_graph = lambda asked: refusal if asked.path.endswith("groups/delta") else None
    tenant = Tenant(seed=41, users=25, groups=2)
    ask(tenant)
    assert ask.outcome is ProbeOutcome.YES
    assert ask.verdict("groups/delta brings groups") is Verdict.FAILS
    assert ask.finding("groups are listed").seen == "2 groups"
    number = len(tenant.members_of(tenant.groups.id_at(0)))
    assert ask.finding("the members of a group are listed").seen.startswith(f"{number} members")


def test_another_tenant_is_asked_for_nothing_more(ask: Asker) -> None:
    ask(Tenant(seed=41, users=5), "0f3c1b5e-91c4-4a6f-9a51-7f0d1f4b2c33")
    assert ask.outcome is ProbeOutcome.NO
    assert ask.told == [ProbeCall.ORGANIZATION]
    assert ask.answers.stop_reason is StopReason.OTHER_TENANT


@pytest.mark.parametrize(
    ("response", "stop"),
    [
        (answer({}, 429, retry_after="9"), StopReason.THROTTLED),
        (answer({}, 429), StopReason.THROTTLED),
        (answer({}, 503, retry_after="120"), StopReason.THROTTLED),
        (answer({}, 503), StopReason.SILENT),
        (answer({}, 401), StopReason.BROKEN),
    ],
)
def test_it_stops_asking_where_graph_wants_it_to(
    ask: Asker, response: Response, stop: StopReason
) -> None:
    calm = {ProbeCall.ORGANIZATION, ProbeCall.BATCH, ProbeCall.USERS, ProbeCall.USERS_NEXT}
    ask.nango.before_graph = lambda asked: response if "delta" in asked.path else None
    ask(Tenant(seed=41, users=1200, groups=2))
    assert ask.answers.stop_reason is stop
    assert ask.outcome is (ProbeOutcome.NO if stop is StopReason.BROKEN else ProbeOutcome.UNKNOWN)
    asked_after = [asked for asked in ask.told if asked not in calm]
    assert len(asked_after) == (2 if stop is StopReason.SILENT else 1)
    assert ask.client.calls == len(ask.told), "nothing is sent twice"


def test_a_throttled_item_of_a_batch_ends_it(ask: Asker) -> None:
    response = answer({}, 429, retry_after="9")
    ask.nango.before_graph = lambda asked: response if asked.item == "1" else None
    ask(Tenant(seed=41, users=5))
    assert ask.told == [ProbeCall.ORGANIZATION, ProbeCall.BATCH]
    assert ask.answers.stop_reason is StopReason.THROTTLED


def test_a_link_to_another_host_is_not_followed(ask: Asker) -> None:
    page = {"value": [], "@odata.nextLink": "https://elsewhere.example/v1.0/users?$skiptoken=x"}
    ask.nango.before_graph = lambda asked: (
        answer(page) if asked.path.endswith("v1.0/users") and not asked.item else None
    )
    ask(Tenant(seed=41, users=5, groups=2))
    assert ProbeCall.USERS_NEXT not in ask.told
    assert ask.outcome is ProbeOutcome.NO
    assert ask.verdict("links lead to Graph's v1.0") is Verdict.FAILS
    assert ask.verdict("the next page of a list comes") is Verdict.FAILS


def test_malformed_objects_are_counted(ask: Asker) -> None:
    page = {"value": [{"id": "not a GUID"}, {"id": "0f3c1b5e-91c4-4a6f-9a51-7f0d1f4b2c33"}]}
    ask.nango.before_graph = lambda asked: (
        answer(page) if asked.path.endswith("v1.0/users") and not asked.item else None
    )
    ask(Tenant(seed=41, users=5, groups=2))
    assert ", 1 malformed" in ask.finding("every object can be understood").seen
    assert ask.outcome is ProbeOutcome.YES


def test_headers_that_this_nango_drops_are_noticed(ask: Asker) -> None:
    ask.nango.buffers_responses = True
    ask(Tenant(seed=41, users=5, groups=2))
    assert ask.verdict("Graph's headers come through on a success") is Verdict.FAILS
    assert ask.outcome is ProbeOutcome.YES


def nango_says(status: int, body: object) -> Callable[[Request], Response]:
    plain = {"content-type": "application/json"}
    response = Response(status, json.dumps(body).encode(), plain, chunked=False)
    return lambda _: response


@pytest.mark.parametrize(
    ("status", "body", "result"),
    [
        (401, {"error": {"code": "unknown_account", "message": "m"}}, ProbeOutcome.SETTINGS),
        (402, {"error": {"code": "plan_limit", "message": "m"}}, ProbeOutcome.SETTINGS),
        (400, {"error": {"code": "server_error", "message": "credentials"}}, ProbeOutcome.NO),
        (429, {"error": {"code": "too_many_request"}}, ProbeOutcome.UNKNOWN),
    ],
)
def test_nangos_own_failures_end_it_at_once(
    ask: Asker, status: int, body: object, result: ProbeOutcome
) -> None:
    ask.nango.before_response = nango_says(status, body)
    ask(Tenant(seed=41, users=5))
    assert ask.outcome is result
    assert ask.client.calls == 1


# ---- another tenant


LINKS = "links are refused to another tenant"


def crossed(ask: Asker, other: Tenant) -> Finding:
    ask.nango.add_connection("another", other)
    send_across_tenants(ask.client, ConnectionRef("another", "entra"), ask.answers, lambda *_: None)
    return next(found for found in run_checks(ask.answers) if found.name == LINKS)


def test_links_that_graph_refuses_to_another_tenant_may_go_alone(ask: Asker) -> None:
    ask(Tenant(seed=41, users=1100, groups=230))
    before = ask.client.calls
    found = crossed(ask, Tenant(seed=42, users=5))
    assert found.verdict is Verdict.HOLDS
    assert found.seen == "4 links sent for another tenant: 400, 400, 400, 400"
    assert ask.client.calls - before == MAX_CROSS_TENANT_CALLS


def test_a_link_that_another_tenant_answers_is_told(ask: Asker) -> None:
    ask(Tenant(seed=41, users=1100, groups=230))

    def take(request: Request) -> Response | None:
        taken = request.connection_id == "another" and "$skiptoken" in request.query
        return answer({"value": []}) if taken else None

    ask.nango.before_graph = take
    assert crossed(ask, Tenant(seed=42, users=5)).verdict is Verdict.FAILS


def test_a_connection_of_the_same_tenant_proves_nothing_about_links(ask: Asker) -> None:
    tenant = Tenant(seed=41, users=1100, groups=230)
    found = crossed(ask(tenant), tenant)
    assert (found.verdict, ask.answers.cross_tenant_statuses) == (Verdict.UNKNOWN, [])


def test_links_that_are_throttled_are_neither_refused_nor_answered(ask: Asker) -> None:
    ask(Tenant(seed=41, users=1100, groups=230))
    ask.nango.before_graph = lambda request: (
        answer({}, 503) if request.connection_id == "another" and "token" in request.query else None
    )
    assert crossed(ask, Tenant(seed=42, users=5)).verdict is Verdict.UNKNOWN


def test_without_another_connection_links_are_not_judged(ask: Asker) -> None:
    ask(Tenant(seed=41, users=50))
    assert LINKS not in {found.name for found in ask.findings}
