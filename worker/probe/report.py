"""The report of a probe: the findings, the calls in numbers, and the outcome. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from worker.probe.answers import ProbeAnswer, ProbeAnswers, StopReason
from worker.probe.connection_checks import CONNECTION_CHECKS
from worker.probe.cross_tenant import check_cross_tenant
from worker.probe.findings import Finding, Verdict
from worker.probe.read_checks import list_read_checks
from worker.probe.traffic_checks import TRAFFIC_CHECKS


@dataclass(frozen=True)
class CallSummary:
    """One call in numbers."""

    asked: str
    status: int | None
    code: str
    milliseconds: int
    bytes: int
    rows: int | None
    bytes_a_row: int | None
    goes_on: str


def summarize_calls(answers: ProbeAnswers) -> list[CallSummary]:
    """Return a summary of every call that was sent, in order."""
    return [_summarize_call(answer) for answer in answers.by_call.values() if answer.was_sent]


def _summarize_call(answer: ProbeAnswer) -> CallSummary:
    size = len(answer.response.body) if answer.response else 0
    page = answer.page
    rows = page.count if page else None
    link = "next" if page and page.next_link else "delta" if page and page.delta_link else ""
    return CallSummary(
        asked=str(answer.call),
        status=answer.status,
        code=answer.code,
        milliseconds=round(answer.seconds * 1000),
        bytes=size,
        rows=rows,
        bytes_a_row=round(size / rows) if rows else None,
        goes_on=link,
    )


class ProbeOutcome(Enum):
    """Whether the tenant can be mirrored, perhaps only with fallbacks."""

    YES = True
    NO = False
    UNKNOWN = None
    SETTINGS = "settings"


def run_checks(answers: ProbeAnswers) -> list[Finding]:
    """Return all findings, in the order in which they are shown."""
    read = list_read_checks(answers.scope)
    findings = (
        check(answers) for check in (*CONNECTION_CHECKS, *read, *TRAFFIC_CHECKS, check_cross_tenant)
    )
    return [finding for finding in findings if finding is not None]


def decide_outcome(answers: ProbeAnswers, findings: Sequence[Finding]) -> ProbeOutcome:
    """Return the outcome, from the findings that are needed."""
    needed = {finding.verdict for finding in findings if finding.needed}
    if answers.stop_reason is StopReason.SETTINGS:
        return ProbeOutcome.SETTINGS
    if Verdict.FAILS in needed:
        return ProbeOutcome.NO
    return ProbeOutcome.UNKNOWN if Verdict.UNKNOWN in needed else ProbeOutcome.YES


def render_summary(result: ProbeOutcome, findings: Sequence[Finding]) -> str:
    """Return the findings in one sentence."""
    wrong = [finding for finding in findings if finding.verdict is Verdict.FAILS]
    needed = [finding for finding in findings if finding.needed]
    if result is ProbeOutcome.SETTINGS:
        return "nothing can be checked because the settings are wrong"
    if result is ProbeOutcome.NO:
        return f"it cannot be mirrored completely; does not hold: {_join_names(wrong, needed)}"
    if result is ProbeOutcome.UNKNOWN:
        unknown = [finding for finding in needed if finding.verdict is Verdict.UNKNOWN]
        return f"not everything could be checked; unknown: {_join_names(unknown, needed)}"
    if wrong:
        return f"it can be mirrored; does not hold: {_join_names(wrong, findings)}"
    return "it can be mirrored, and all assumptions that were checked hold"


def _join_names(findings: Sequence[Finding], among: Sequence[Finding]) -> str:
    return "; ".join(finding.name for finding in findings if finding in among)
