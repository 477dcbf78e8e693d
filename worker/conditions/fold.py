"""Fold effects into their cause: one outage is one condition, not thousands of late customers."""

from typing import Final, NamedTuple

from worker.conditions.causes import FleetCause, Situation, find_holding_cause
from worker.conditions.condition import Code, Condition
from worker.conditions.facts import ConnectionFacts

_LATENESS: Final = frozenset({Code.LATE, Code.NEVER_LOADED})
_FAILURES: Final = _LATENESS | {Code.SYNC_FAILING}
_EXPLAINED: Final = {
    Code.HALTED: _FAILURES,
    Code.NANGO_SILENT: _FAILURES,
    Code.SERVER_UNUSABLE: _FAILURES,
}
"""What each condition of the service explains, if more than lateness."""


class FoldedConditions(NamedTuple):
    """The conditions that are a connection's own, and what explains the rest."""

    conditions: tuple[Condition, ...]
    cause: FleetCause | None
    """What holds it up, if anything that concerns more than itself does."""


def fold_conditions(
    facts: ConnectionFacts, conditions: tuple[Condition, ...], situation: Situation
) -> FoldedConditions:
    """Leave out what a condition of the service explains."""
    cause = find_holding_cause(facts, situation)
    if cause is None:
        return FoldedConditions(conditions, None)
    explained = _EXPLAINED.get(cause.code, _LATENESS)
    own = tuple(
        one for one in conditions if one.code not in explained or not one.severity.needs_attention
    )
    return FoldedConditions(own, cause)
