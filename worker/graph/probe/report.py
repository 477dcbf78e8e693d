"""What a probe tells: the findings, the calls in numbers, and what they come to. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from worker.graph.probe.answers import Answer, Answers, Stop
from worker.graph.probe.crossed import crossed
from worker.graph.probe.findings import Finding, Verdict
from worker.graph.probe.opening import OPENING
from worker.graph.probe.reads import READS
from worker.graph.probe.traffic import TRAFFIC


@dataclass(frozen=True)
class Call:
    """One call in numbers."""

    asked: str
    status: int | None
    code: str
    milliseconds: int
    bytes: int
    rows: int | None
    bytes_a_row: int | None
    goes_on: str


def calls(answers: Answers) -> list[Call]:
    """Every call that was sent, in order."""
    return [_call(answer) for answer in answers.by.values() if answer.sent]


def _call(answer: Answer) -> Call:
    size = len(answer.reply.body) if answer.reply else 0
    page = answer.page
    rows = page.count if page else None
    link = "next" if page and page.next_link else "delta" if page and page.delta_link else ""
    return Call(
        asked=str(answer.asked),
        status=answer.status,
        code=answer.code,
        milliseconds=round(answer.seconds * 1000),
        bytes=size,
        rows=rows,
        bytes_a_row=round(size / rows) if rows else None,
        goes_on=link,
    )


class Outcome(Enum):
    """Whether the tenant can be mirrored, perhaps by other ways than the preferred ones."""

    YES = True
    NO = False
    UNKNOWN = None
    SETTINGS = "settings"


def judged(answers: Answers) -> list[Finding]:
    """Every finding, in the order in which people read them."""
    found = (check(answers) for check in (*OPENING, *READS, *TRAFFIC, crossed))
    return [finding for finding in found if finding is not None]


def outcome(answers: Answers, findings: Sequence[Finding]) -> Outcome:
    """What the findings that are needed come to."""
    needed = {finding.verdict for finding in findings if finding.needed}
    if answers.stop is Stop.SETTINGS:
        return Outcome.SETTINGS
    if Verdict.FAILS in needed:
        return Outcome.NO
    return Outcome.UNKNOWN if Verdict.UNKNOWN in needed else Outcome.YES


def summary(result: Outcome, findings: Sequence[Finding]) -> str:
    """The findings in one sentence."""
    wrong = [finding for finding in findings if finding.verdict is Verdict.FAILS]
    needed = [finding for finding in findings if finding.needed]
    if result is Outcome.SETTINGS:
        return "nothing can be said, as our own settings are wrong"
    if result is Outcome.NO:
        return f"it cannot be mirrored whole; does not hold: {_named(wrong, needed)}"
    if result is Outcome.UNKNOWN:
        unknown = [finding for finding in needed if finding.verdict is Verdict.UNKNOWN]
        return f"not all could be found out; unknown: {_named(unknown, needed)}"
    if wrong:
        return f"it can be mirrored; does not hold: {_named(wrong, findings)}"
    return "it can be mirrored, and all that was seen is as assumed"


def _named(findings: Sequence[Finding], among: Sequence[Finding]) -> str:
    return "; ".join(finding.name for finding in findings if finding in among)
