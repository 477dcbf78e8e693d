"""What a probe's answers are taken to mean, and what of them may be told."""

import json
from functools import partial
from typing import Any

import pytest

from models.resources.users import USERS
from worker.core.errors import Broken, Halt, Later, Spent, Torn, Trouble
from worker.graph.decode import decode_page
from worker.graph.probe.answers import Answer, Answers, Asked, Stop
from worker.graph.probe.asking import reason_to_stop, understood
from worker.graph.probe.findings import Finding, Verdict, plural
from worker.graph.probe.opening import batch_items, connection, organization, same_tenant
from worker.graph.probe.reads import READS, delta_token, members, page_size, properties
from worker.graph.probe.report import Outcome, calls, judged, outcome, summary
from worker.graph.probe.traffic import budget, cost, headers, links, permissions, times
from worker.nango.reply import Reply

GUID = "0f3c1b5e-91c4-4a6f-9a51-7f0d1f4b2c33"
GRAPH = "https://graph.microsoft.com/v1.0"

read_users = partial(decode_page, USERS)


def a_reply(status: int, content: Any = None, **told: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in told.items()}
    return Reply(status, json.dumps(content).encode(), named)


def answered(*answers: Answer, **more: Any) -> Answers:
    return Answers({answer.asked: answer for answer in answers}, **more)


def a_page(asked: Asked, rows: list[dict[str, Any]] | None = None, **links: str) -> Answer:
    body = {"value": rows or []} | {f"@odata.{name}": link for name, link in links.items()}
    reply = a_reply(200, body, request_id="1")
    return Answer(asked, reply=reply, page=decode_page(USERS, reply.body))


def refused(asked: Asked, status: int, code: str = "Denied", permission: str = "") -> Answer:
    reply = a_reply(status, {"error": {"code": code, "message": "of Zanzibar"}})
    return Answer(
        asked, permission, reply, *understood(reply, permission, partial(decode_page, USERS))
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
    answer = refused(Asked.USERS, 403, code)
    assert answer.code == told
    assert calls(answered(answer))[0].code == told


@pytest.mark.parametrize(
    ("trouble", "fruitless", "stop"),
    [
        (None, 0, None),
        (Halt("x"), 0, Stop.SETTINGS),
        (Broken("x"), 0, Stop.BROKEN),
        (Spent("x", after=3), 1, Stop.THROTTLED),
        (Later("Nango got no answer from Graph", after=20), 1, Stop.THROTTLED),
        (Later("the connection to Nango failed", after=0), 1, None),
        (Later("the connection to Nango failed", after=0), 2, Stop.SILENT),
        (Torn("x", after=600), 0, None),
    ],
)
def test_a_probe_goes_on_only_where_nobody_asked_it_to_wait(
    trouble: Trouble | None, fruitless: int, stop: Stop | None
) -> None:
    assert reason_to_stop(Answer(Asked.USERS, trouble=trouble), fruitless) is stop


@pytest.mark.parametrize(
    ("status", "told", "fruitless", "stop"),
    [
        (503, {"retry_after": "7"}, 1, Stop.THROTTLED),
        (503, {}, 1, None),
        (503, {}, 2, Stop.SILENT),
        (429, {}, 1, Stop.THROTTLED),
    ],
)
def test_a_pause_that_an_answer_asks_for_is_kept(
    status: int, told: dict[str, str], fruitless: int, stop: Stop | None
) -> None:
    reply = a_reply(status, **told)
    answer = Answer(Asked.USERS, "", reply, *understood(reply, "", None))
    assert answer.status == status
    assert reason_to_stop(answer, fruitless) is stop


def test_there_is_no_status_where_nothing_of_graphs_came_back() -> None:
    assert Answer(Asked.USERS, trouble=Later("the connection to Nango failed")).status is None


def test_an_answer_that_is_no_page_does_not_hold() -> None:
    reply = a_reply(200, {"values": []})
    answer = Answer(Asked.USERS, "", reply, *understood(reply, "", read_users))
    found = finding("users are listed with all our properties", answered(answer))
    assert (found.verdict, found.needed) == (Verdict.FAILS, True)
    assert found.seen == "status 200, but not what was asked for"


def finding(name: str, answers: Answers) -> Finding:
    return next(found for found in judged(answers) if found.name == name)


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
    found = same_tenant(Answers(organizations=now, known_tenant=before))
    assert (found.verdict, found.needed) == (verdict, needed)
    assert GUID not in found.seen + found.does


@pytest.mark.parametrize(("number", "verdict"), [(1, Verdict.HOLDS), (2, Verdict.FAILS)])
def test_a_tenant_has_one_organization(number: int, verdict: Verdict) -> None:
    asked = Answer(Asked.ORGANIZATION, reply=a_reply(200))
    found = organization(answered(asked, organizations=[GUID] * number))
    assert (found.verdict, found.seen) == (verdict, plural(number, "organization"))


def test_an_organization_that_is_refused_names_its_permission() -> None:
    found = organization(answered(refused(Asked.ORGANIZATION, 403, permission="Some.Read.All")))
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
    found = batch_items(answered(Answer(Asked.BATCH, reply=a_reply(200, {"responses": items}))))
    assert found.verdict is verdict
    assert found.seen.startswith(told)


def test_a_full_page_a_short_page_and_a_small_tenant_are_three_things() -> None:
    rows = [{"id": f"0f3c1b5e-91c4-4a6f-9a51-{number:012x}"} for number in range(999)]
    link = f"{GRAPH}/users?$skiptoken=abc"
    cases = (
        (a_page(Asked.USERS, rows, nextLink=link), Verdict.HOLDS),
        (a_page(Asked.USERS, rows[:100], nextLink=link), Verdict.FAILS),
        (a_page(Asked.USERS, rows[:100]), Verdict.UNKNOWN),
    )
    for answer, verdict in cases:
        assert page_size(answered(answer)).verdict is verdict


def test_properties_that_never_come_are_named() -> None:
    found = properties(answered(a_page(Asked.USERS, [{"id": GUID, "displayName": "Zanzibar"}])))
    assert found.verdict is Verdict.FAILS
    assert found.seen.startswith("2 of 37; never ")
    assert "employee_hire_date" in found.seen
    assert "Zanzibar" not in found.seen


@pytest.mark.parametrize(
    ("answers", "verdict", "needed"),
    [
        ([a_page(Asked.TOKEN, deltaLink=f"{GRAPH}/x")], Verdict.HOLDS, True),
        (
            [a_page(Asked.TOKEN, nextLink=f"{GRAPH}/x"), a_page(Asked.TOKEN_NEXT, deltaLink="y")],
            Verdict.HOLDS,
            True,
        ),
        ([a_page(Asked.TOKEN, nextLink=f"{GRAPH}/x")], Verdict.UNKNOWN, False),
        ([a_page(Asked.TOKEN)], Verdict.FAILS, True),
        ([refused(Asked.TOKEN, 501)], Verdict.FAILS, False),
        ([refused(Asked.TOKEN, 403)], Verdict.FAILS, True),
    ],
)
def test_a_token_that_starts_from_now(
    answers: list[Answer], verdict: Verdict, needed: bool
) -> None:
    found = delta_token(answered(*answers))
    assert (found.verdict, found.needed) == (verdict, needed)


def test_groups_without_members_prove_nothing() -> None:
    found = members(answered(a_page(Asked.GROUPS, [{"id": GUID}])))
    assert found is not None
    assert found.verdict is Verdict.UNKNOWN


def test_links_are_told_by_their_form_only() -> None:
    good = a_page(Asked.USERS, nextLink=f"{GRAPH}/users?$top=9&$skiptoken=Zanzibar")
    found = links(answered(good))
    assert found.verdict is Verdict.HOLDS
    assert found.seen.endswith("token: $skiptoken")
    odd = a_page(Asked.GROUPS, deltaLink="https://zanzibar.example/v1.0/users?zanzibar=1")
    found = links(answered(good, odd))
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
    answers = answered(Answer(Asked.USERS, reply=a_reply(200, **told)))
    assert cost(answers).seen == (
        "3 resource units on 1 call, 85 % of the limit at most; throttling headers on 1"
    )
    assert budget(answers).seen == "200 calls in a window"
    assert headers(answers).seen == "on 0 of 1; 0 with a length, 0 said to be JSON"
    every = [found.seen + found.does for found in judged(answers)]
    assert "zanzibar" not in "".join(every).lower()


def test_headers_that_nango_drops_are_missed() -> None:
    answers = answered(Answer(Asked.USERS, reply=a_reply(200, content_length="9")))
    assert headers(answers).verdict is Verdict.FAILS
    assert cost(answers).verdict is Verdict.FAILS
    assert budget(answers).verdict is Verdict.FAILS


def test_the_missing_permissions_are_named_once_each() -> None:
    found = permissions(
        answered(
            refused(Asked.ROLE_DEFINITIONS, 403, permission="Role.Read"),
            refused(Asked.ROLE_ASSIGNMENTS, 403, permission="Role.Read"),
            refused(Asked.ALL_SITES, 403, permission="Sites.Read.All"),
        )
    )
    assert found.verdict is Verdict.FAILS
    assert found.does.endswith("grant Role.Read, Sites.Read.All")


def test_silence_counts_against_the_time() -> None:
    silent = Answer(Asked.USERS, trouble=Later("the connection to Nango failed"), seconds=2.0)
    busy = Answer(
        Asked.GROUPS, reply=a_reply(503), trouble=Later("Graph answered 503"), seconds=2.0
    )
    found = times(answered(silent, busy))
    assert found.verdict is Verdict.FAILS
    assert "median 2,000 ms" in found.seen
    assert found.seen.endswith("2 without a usable answer")


def test_nothing_answered_is_neither_yes_nor_no() -> None:
    nothing = Answers(stop=Stop.SILENT)
    findings = judged(nothing)
    assert {found.verdict for found in findings} == {Verdict.UNKNOWN}
    assert outcome(nothing, findings) is Outcome.UNKNOWN
    assert len(findings) >= len(READS)


@pytest.mark.parametrize(
    ("trouble", "stop", "result"),
    [
        (Halt("x"), Stop.SETTINGS, Outcome.SETTINGS),
        (Broken("x"), Stop.BROKEN, Outcome.NO),
        (Spent("x", after=9), Stop.THROTTLED, Outcome.UNKNOWN),
    ],
)
def test_a_connection_that_cannot_be_used_is_told_as_such(
    trouble: Trouble, stop: Stop, result: Outcome
) -> None:
    answers = answered(Answer(Asked.ORGANIZATION, trouble=trouble), stop=stop)
    findings = judged(answers)
    assert outcome(answers, findings) is result
    assert connection(answers).verdict is not Verdict.HOLDS
    assert summary(result, findings)
