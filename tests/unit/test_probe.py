"""What a probe's answers are taken to mean, and what of them may be told."""

import json
from functools import partial
from typing import Any

import pytest

from models.resources.users import USERS
from worker.core.errors import (
    BudgetExhausted,
    ConfigurationError,
    ConnectionBroken,
    MalformedResponse,
    MirrorError,
    RetryLater,
)
from worker.graph.decode import decode_page
from worker.nango.response import ApiResponse
from worker.probe.answers import ProbeAnswer, ProbeAnswers, ProbeCall, StopReason
from worker.probe.connection_checks import (
    check_batch_items,
    check_connection,
    check_organization,
    check_same_tenant,
)
from worker.probe.findings import Finding, Verdict, pluralize
from worker.probe.read_checks import (
    check_delta_token,
    check_members,
    check_page_size,
    check_properties,
    list_read_checks,
)
from worker.probe.report import (
    ProbeOutcome,
    decide_outcome,
    render_summary,
    run_checks,
    summarize_calls,
)
from worker.probe.requests import find_stop_reason, parse_response
from worker.probe.scope import ProbeScope
from worker.probe.traffic_checks import (
    check_budget,
    check_cost,
    check_headers,
    check_links,
    check_permissions,
    check_times,
)

GUID = "0f3c1b5e-91c4-4a6f-9a51-7f0d1f4b2c33"
GRAPH = "https://graph.microsoft.com/v1.0"

read_users = partial(decode_page, USERS)


def a_reply(status: int, content: Any = None, **told: str) -> ApiResponse:
    named = {name.replace("_", "-"): value for name, value in told.items()}
    return ApiResponse(status, json.dumps(content).encode(), named)


def answered(*answers: ProbeAnswer, **more: Any) -> ProbeAnswers:
    return ProbeAnswers({answer.call: answer for answer in answers}, **more)


def a_page(asked: ProbeCall, rows: list[dict[str, Any]] | None = None, **links: str) -> ProbeAnswer:
    body = {"value": rows or []} | {f"@odata.{name}": link for name, link in links.items()}
    response = a_reply(200, body, request_id="1")
    return ProbeAnswer(asked, response=response, page=decode_page(USERS, response.body))


def refused(
    asked: ProbeCall, status: int, code: str = "Denied", permission: str = ""
) -> ProbeAnswer:
    response = a_reply(status, {"error": {"code": code, "message": "of Zanzibar"}})
    return ProbeAnswer(
        asked,
        permission,
        response,
        *parse_response(response, permission, partial(decode_page, USERS)),
    )


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("Authorization_RequestDenied", "Authorization_RequestDenied"),
        ("Error.Of.Graph2", "Error.Of.Graph2"),
        ("Zanzibar Quux", ""),
        (GUID, ""),
        ("someone@zanzibar", ""),
        ("a" * 65, ""),
        ("[bold]", ""),
        ("Denied\n", ""),
        ("", ""),
    ],
)
def test_only_what_has_the_form_of_a_code_is_told(code: str, told: str) -> None:
    answer = refused(ProbeCall.USERS, 403, code)
    assert answer.code == told
    assert summarize_calls(answered(answer))[0].code == told


@pytest.mark.parametrize(
    ("error", "fruitless", "stop"),
    [
        (None, 0, None),
        (ConfigurationError("x"), 0, StopReason.SETTINGS),
        (ConnectionBroken("x"), 0, StopReason.BROKEN),
        (BudgetExhausted("x", after=3), 1, StopReason.THROTTLED),
        (RetryLater("Nango got no answer from Graph", after=20), 1, StopReason.THROTTLED),
        (RetryLater("the connection to Nango failed", after=0), 1, None),
        (RetryLater("the connection to Nango failed", after=0), 2, StopReason.SILENT),
        (MalformedResponse("x", after=600), 0, None),
    ],
)
def test_a_probe_goes_on_only_where_nobody_asked_it_to_wait(
    error: MirrorError | None, fruitless: int, stop: StopReason | None
) -> None:
    assert find_stop_reason(ProbeAnswer(ProbeCall.USERS, error=error), fruitless) is stop


@pytest.mark.parametrize(
    ("status", "told", "fruitless", "stop"),
    [
        (503, {"retry_after": "7"}, 1, StopReason.THROTTLED),
        (503, {}, 1, None),
        (503, {}, 2, StopReason.SILENT),
        (429, {}, 1, StopReason.THROTTLED),
    ],
)
def test_a_pause_that_an_answer_asks_for_is_kept(
    status: int, told: dict[str, str], fruitless: int, stop: StopReason | None
) -> None:
    response = a_reply(status, **told)
    answer = ProbeAnswer(ProbeCall.USERS, "", response, *parse_response(response, "", None))
    assert answer.status == status
    assert find_stop_reason(answer, fruitless) is stop


def test_there_is_no_status_where_nothing_of_graphs_came_back() -> None:
    assert (
        ProbeAnswer(ProbeCall.USERS, error=RetryLater("the connection to Nango failed")).status
        is None
    )


def test_an_answer_that_is_no_page_does_not_hold() -> None:
    response = a_reply(200, {"values": []})
    answer = ProbeAnswer(ProbeCall.USERS, "", response, *parse_response(response, "", read_users))
    found = finding("users are listed with all our properties", answered(answer))
    assert (found.verdict, found.needed) == (Verdict.FAILS, True)
    assert found.seen == "status 200, but not what was asked for"


def finding(name: str, answers: ProbeAnswers) -> Finding:
    return next(found for found in run_checks(answers) if found.name == name)


@pytest.mark.parametrize(
    ("before", "now", "verdict", "needed"),
    [
        (None, [GUID], Verdict.UNKNOWN, False),
        (GUID, [GUID], Verdict.HOLDS, False),
        (GUID, ["another"], Verdict.FAILS, True),
        (GUID, [], Verdict.UNKNOWN, False),
    ],
)
def test_another_tenant_than_before_is_told_without_naming_either(
    before: str | None, now: list[str], verdict: Verdict, needed: bool
) -> None:
    found = check_same_tenant(ProbeAnswers(organizations=now, known_tenant=before))
    assert (found.verdict, found.needed) == (verdict, needed)
    assert GUID not in found.seen + found.does


@pytest.mark.parametrize(("number", "verdict"), [(1, Verdict.HOLDS), (2, Verdict.FAILS)])
def test_a_tenant_has_one_organization(number: int, verdict: Verdict) -> None:
    asked = ProbeAnswer(ProbeCall.ORGANIZATION, response=a_reply(200))
    found = check_organization(answered(asked, organizations=[GUID] * number))
    assert (found.verdict, found.seen) == (verdict, pluralize(number, "organization"))


def test_an_organization_that_is_refused_names_its_permission() -> None:
    found = check_organization(
        answered(refused(ProbeCall.ORGANIZATION, 403, permission="Some.Read.All"))
    )
    assert found.verdict is Verdict.FAILS
    assert "grant Some.Read.All" in found.does


@pytest.mark.parametrize(
    ("ids", "verdict", "told"),
    [
        (["0", "1", "2"], Verdict.HOLDS, "3 of 3 answered, in the order asked"),
        (["2", "0", "1"], Verdict.HOLDS, "3 of 3 answered, in another order"),
        (["0", "2"], Verdict.FAILS, "2 of 3 answered"),
        (["0", "1", "1"], Verdict.FAILS, "2 of 3 answered"),
        (["0", "1", "Zanzibar"], Verdict.FAILS, "2 of 3 answered"),
    ],
)
def test_items_of_a_batch_go_by_their_ids(ids: list[str], verdict: Verdict, told: str) -> None:
    items = [{"id": one, "status": 200, "headers": {}, "body": {}} for one in ids]
    found = check_batch_items(
        answered(ProbeAnswer(ProbeCall.BATCH, response=a_reply(200, {"responses": items})))
    )
    assert found.verdict is verdict
    assert found.seen.startswith(told)


def test_a_full_page_a_short_page_and_a_small_tenant_are_three_things() -> None:
    rows = [{"id": f"0f3c1b5e-91c4-4a6f-9a51-{number:012x}"} for number in range(999)]
    link = f"{GRAPH}/users?$skiptoken=abc"
    cases = (
        (a_page(ProbeCall.USERS, rows, nextLink=link), Verdict.HOLDS),
        (a_page(ProbeCall.USERS, rows[:100], nextLink=link), Verdict.FAILS),
        (a_page(ProbeCall.USERS, rows[:100]), Verdict.UNKNOWN),
    )
    for answer, verdict in cases:
        assert check_page_size(answered(answer)).verdict is verdict


def test_properties_that_never_come_are_named() -> None:
    found = check_properties(
        answered(a_page(ProbeCall.USERS, [{"id": GUID, "displayName": "Zanzibar"}]))
    )
    assert found.verdict is Verdict.FAILS
    assert found.seen.startswith("2 of 46; never ")
    assert "employee_hire_date" in found.seen
    assert "Zanzibar" not in found.seen


@pytest.mark.parametrize(
    ("answers", "verdict", "needed"),
    [
        ([a_page(ProbeCall.TOKEN, deltaLink=f"{GRAPH}/x")], Verdict.HOLDS, True),
        (
            [
                a_page(ProbeCall.TOKEN, nextLink=f"{GRAPH}/x"),
                a_page(ProbeCall.TOKEN_NEXT, deltaLink="y"),
            ],
            Verdict.HOLDS,
            True,
        ),
        ([a_page(ProbeCall.TOKEN, nextLink=f"{GRAPH}/x")], Verdict.UNKNOWN, False),
        ([a_page(ProbeCall.TOKEN)], Verdict.FAILS, True),
        ([refused(ProbeCall.TOKEN, 501)], Verdict.FAILS, False),
        ([refused(ProbeCall.TOKEN, 403)], Verdict.FAILS, True),
    ],
)
def test_a_token_that_starts_from_now(
    answers: list[ProbeAnswer], verdict: Verdict, needed: bool
) -> None:
    found = check_delta_token(answered(*answers))
    assert (found.verdict, found.needed) == (verdict, needed)


def test_groups_without_members_prove_nothing() -> None:
    found = check_members(answered(a_page(ProbeCall.GROUPS, [{"id": GUID}])))
    assert found is not None
    assert found.verdict is Verdict.UNKNOWN


def test_links_are_told_by_their_form_only() -> None:
    good = a_page(ProbeCall.USERS, nextLink=f"{GRAPH}/users?$top=9&$skiptoken=Zanzibar")
    found = check_links(answered(good))
    assert found.verdict is Verdict.HOLDS
    assert found.seen.endswith("token: $skiptoken")
    odd = a_page(ProbeCall.GROUPS, deltaLink="https://zanzibar.example/v1.0/users?zanzibar=1")
    found = check_links(answered(good, odd))
    assert found.verdict is Verdict.FAILS
    assert found.seen.startswith("1 of 2 links")
    assert "zanzibar" not in found.seen.lower()


def test_values_of_headers_are_told_only_where_they_are_numbers() -> None:
    told = {
        "x_ms_resource_unit": "3",
        "x_ms_throttle_limit_percentage": "0.85",
        "x_ms_throttle_scope": "Tenant_Application/ReadWrite/zanzibar",
        "x_ratelimit_limit": "200",
        "x_ratelimit_remaining": "zanzibar",
        "content_type": "application/zanzibar",
    }
    answers = answered(ProbeAnswer(ProbeCall.USERS, response=a_reply(200, **told)))
    assert check_cost(answers).seen == (
        "3 resource units on 1 call, 85 % of the limit at most; throttling headers on 1"
    )
    assert check_budget(answers).seen == "200 calls in a window"
    assert check_headers(answers).seen == "on 0 of 1; 0 with a length, 0 said to be JSON"
    every = [found.seen + found.does for found in run_checks(answers)]
    assert "zanzibar" not in "".join(every).lower()


def test_headers_that_nango_drops_are_missed() -> None:
    answers = answered(ProbeAnswer(ProbeCall.USERS, response=a_reply(200, content_length="9")))
    assert check_headers(answers).verdict is Verdict.FAILS
    assert check_cost(answers).verdict is Verdict.FAILS
    assert check_budget(answers).verdict is Verdict.FAILS


def test_the_missing_permissions_are_named_once_each() -> None:
    found = check_permissions(
        answered(
            refused(ProbeCall.ROLE_DEFINITIONS, 403, permission="Role.Read"),
            refused(ProbeCall.ROLE_ASSIGNMENTS, 403, permission="Role.Read"),
            refused(ProbeCall.ALL_SITES, 403, permission="Sites.Read.All"),
        )
    )
    assert found.verdict is Verdict.FAILS
    assert found.does.endswith("grant Role.Read, Sites.Read.All")


def test_silence_counts_against_the_time() -> None:
    silent = ProbeAnswer(
        ProbeCall.USERS, error=RetryLater("the connection to Nango failed"), seconds=2.0
    )
    busy = ProbeAnswer(
        ProbeCall.GROUPS, response=a_reply(503), error=RetryLater("Graph answered 503"), seconds=2.0
    )
    found = check_times(answered(silent, busy))
    assert found.verdict is Verdict.FAILS
    assert "median 2,000 ms" in found.seen
    assert found.seen.endswith("2 without a usable answer")


def test_nothing_answered_is_neither_yes_nor_no() -> None:
    nothing = ProbeAnswers(stop_reason=StopReason.SILENT)
    findings = run_checks(nothing)
    assert {found.verdict for found in findings} == {Verdict.UNKNOWN}
    assert decide_outcome(nothing, findings) is ProbeOutcome.UNKNOWN
    assert len(findings) >= len(list_read_checks(ProbeScope()))


@pytest.mark.parametrize(
    ("error", "stop", "result"),
    [
        (ConfigurationError("x"), StopReason.SETTINGS, ProbeOutcome.SETTINGS),
        (ConnectionBroken("x"), StopReason.BROKEN, ProbeOutcome.NO),
        (BudgetExhausted("x", after=9), StopReason.THROTTLED, ProbeOutcome.UNKNOWN),
    ],
)
def test_a_connection_that_cannot_be_used_is_told_as_such(
    error: MirrorError, stop: StopReason, result: ProbeOutcome
) -> None:
    answers = answered(ProbeAnswer(ProbeCall.ORGANIZATION, error=error), stop_reason=stop)
    findings = run_checks(answers)
    assert decide_outcome(answers, findings) is result
    assert check_connection(answers).verdict is not Verdict.HOLDS
    assert render_summary(result, findings)
