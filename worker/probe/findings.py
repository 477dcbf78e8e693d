"""The findings of a probe, and helpers for all checks. Pure.

A finding holds numbers and our own words. The only text of Graph and Nango in it is an error code
in the form of one: no message, name, id, link or header's value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from models.resource import Resource
from models.resources import RESOURCES
from worker.core.errors import ConnectionBroken, MalformedResponse
from worker.graph.page import Page
from worker.probe.answers import ProbeAnswer, ProbeAnswers, StopReason, is_transient


class Verdict(StrEnum):
    HOLDS = "holds"
    FAILS = "does not hold"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One checked assumption. If a ``needed`` one does not hold, something is not mirrored."""

    name: str
    verdict: Verdict
    seen: str
    does: str
    needed: bool = False


Check = Callable[[ProbeAnswers], Finding | None]
"""Returns None if the check does not apply."""

MEMBERSHIP: Final = "membership"
TRIES_LATER: Final = "tries again later"
MARKS_REFUSED: Final = "marks it refused and tries again every hour"
NOT_LICENSED: Final = "leaves it out, as the tenant has no licence, and asks again every day"


def pluralize(number: int, noun: str) -> str:
    if noun.endswith("y"):
        return f"{number:,} {noun if number == 1 else f'{noun[:-1]}ies'}"
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def judge_call(answers: ProbeAnswers, asked: str) -> tuple[Verdict, str]:
    """Return the verdict on a call, and the reason in numbers."""
    answer = answers.get(asked)
    if answer is None:
        return (
            Verdict.UNKNOWN,
            f"not asked: {answers.stop_reason or 'there was nothing to ask for'}",
        )
    if answer.is_success:
        return Verdict.HOLDS, ""
    description = " ".join(filter(None, [f"status {answer.status}", answer.code]))
    if isinstance(answer.error, MalformedResponse):
        return Verdict.FAILS, _describe_malformed(answer)
    passing = is_transient(answer.error)
    if answer.status is not None:
        unclear = passing or isinstance(answer.error, ConnectionBroken)
        return Verdict.UNKNOWN if unclear else Verdict.FAILS, description
    waits = passing and answers.stop_reason is StopReason.THROTTLED
    seen = "a budget of calls is used up for now" if waits else "no answer of Graph's"
    return Verdict.UNKNOWN, seen


def _describe_malformed(answer: ProbeAnswer) -> str:
    if not answer.was_sent:
        return "not followed: the link does not lead to Graph's v1.0"
    if answer.response is None:
        return "the answer could not be read"
    return f"status {answer.status}, but not what was asked for"


def describe_consequence(
    verdict: Verdict, answer: ProbeAnswer | None, fails: str = MARKS_REFUSED
) -> str:
    """Return what Tenant Mirror does if a call failed."""
    if verdict is Verdict.UNKNOWN:
        return TRIES_LATER
    if answer is not None and answer.is_not_licensed:
        return NOT_LICENSED
    if answer is not None and answer.status == 403 and answer.permission:
        return f"{fails}; grant {answer.permission} and consent again"
    return fails


def name_edge(edge: Resource) -> str:
    """Return what one edge is called: a membership, or what the member is, such as an owner."""
    return MEMBERSHIP if edge.relation == "members" else edge.relation.removesuffix("s")


def describe_page(page: Page, noun: str) -> str:
    """Return a page in numbers."""
    parts = [pluralize(page.count, noun)]
    if page.removed:
        parts.append(f"{len(page.removed):,} of them removed")
    for name, edges in page.edges.items():
        if edges.found:
            parts.append(pluralize(len(edges.found), name_edge(RESOURCES[name])))
    for link, what in ((page.next_link, "a next link"), (page.delta_link, "a delta link")):
        if link is not None:
            parts.append(what)
    return ", ".join(parts)
