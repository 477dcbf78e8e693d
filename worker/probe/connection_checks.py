"""Checks the connection, its tenant, and whether ``$batch`` works. Pure."""

from typing import Final

from worker.core.errors import ConfigurationError, ConnectionBroken
from worker.probe.answers import ProbeAnswers, ProbeCall, StopReason, parse_batch_items
from worker.probe.findings import (
    TRIES_LATER,
    Check,
    Finding,
    Verdict,
    describe_consequence,
    judge_call,
    pluralize,
)
from worker.probe.requests import list_batch_paths


def check_connection(answers: ProbeAnswers) -> Finding:
    name = "Nango reaches Graph for this connection"
    errors = [answer.error for answer in answers.by_call.values()]
    if any(isinstance(error, ConfigurationError) for error in errors):
        does = "halts everything; 'tenant-mirror sync' prints the reason"
        return Finding(name, Verdict.FAILS, str(StopReason.SETTINGS), does, needed=True)
    if any(isinstance(error, ConnectionBroken) for error in errors):
        does = "marks the connection broken and tries again after 1, 2, 4 ... minutes"
        seen = "it is unknown to Nango, or its token is refused or not renewed"
        return Finding(name, Verdict.FAILS, seen, does, needed=True)
    answered = sum(answer.status is not None for answer in answers.by_call.values())
    seen = f"Graph answered {answered:,} of {pluralize(len(answers.by_call), 'call')}"
    if not answered:
        return Finding(name, Verdict.UNKNOWN, seen, TRIES_LATER, needed=True)
    return Finding(name, Verdict.HOLDS, seen, "asks through Nango only")


def check_organization(answers: ProbeAnswers) -> Finding:
    name = "the organization can be read"
    verdict, seen = judge_call(answers, ProbeCall.ORGANIZATION)
    fails = "reads nothing else, as it cannot know whose tenant it is"
    if verdict is not Verdict.HOLDS:
        does = describe_consequence(verdict, answers.by_call.get(ProbeCall.ORGANIZATION), fails)
        return Finding(name, verdict, seen, does, needed=True)
    number = len(answers.organizations)
    seen = pluralize(number, "organization")
    if number != 1:
        return Finding(name, Verdict.FAILS, seen, fails, needed=True)
    return Finding(name, Verdict.HOLDS, seen, "reads it first in every slice", needed=True)


def check_same_tenant(answers: ProbeAnswers) -> Finding:
    name = "it is the tenant that it was before"
    if answers.known_tenant is None or len(answers.organizations) != 1:
        seen = "nothing to compare with"
        return Finding(name, Verdict.UNKNOWN, seen, "compares them in every slice")
    if answers.known_tenant in answers.organizations:
        return Finding(name, Verdict.HOLDS, "the same", "compares them in every slice")
    does = "never reads it: delete it in Nango and connect again"
    return Finding(name, Verdict.FAILS, "another one", does, needed=True)


def check_batch(answers: ProbeAnswers) -> Finding:
    name = "$batch is accepted"
    verdict, seen = judge_call(answers, ProbeCall.BATCH)
    answer = answers.by_call.get(ProbeCall.BATCH)
    if verdict is Verdict.HOLDS and answer is not None:
        return Finding(
            name, verdict, f"status {answer.status}", "sends up to 20 requests in a call"
        )
    does = TRIES_LATER if verdict is Verdict.UNKNOWN else "falls back to single calls"
    return Finding(name, verdict, seen, does)


def check_batch_items(answers: ProbeAnswers) -> Finding:
    name = "every item of a $batch is answered by its id"
    verdict, seen = judge_call(answers, ProbeCall.BATCH)
    answer = answers.by_call.get(ProbeCall.BATCH)
    if verdict is not Verdict.HOLDS or answer is None or answer.response is None:
        return Finding(name, Verdict.UNKNOWN, seen or "no items", "sends single requests")
    items = parse_batch_items(answer.response)
    wanted = [str(index) for index in range(len(list_batch_paths(answers.scope)))]
    answered = [identity for item in items if (identity := item.get("id")) in wanted]
    ours = [item for item in items if item.get("id") in wanted]
    headers = sum(isinstance(item.get("headers"), dict) for item in ours)
    good = sum(item.get("status") == 200 for item in ours)
    order = "in the order asked" if answered == wanted else "in another order"
    seen = (
        f"{len(set(answered))} of {len(wanted)} answered, {order}; "
        f"{good} with status 200, {headers} with headers of their own"
    )
    if sorted(answered) == wanted:
        return Finding(name, Verdict.HOLDS, seen, "matches items by id, in any order")
    return Finding(name, Verdict.FAILS, seen, "repeats missing requests alone")


CONNECTION_CHECKS: Final[tuple[Check, ...]] = (
    check_connection,
    check_organization,
    check_same_tenant,
    check_batch,
    check_batch_items,
)
