"""Loads what the workers share through Redis: Nango's budget, its outage, Graph's pauses."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from models.run import RunTrigger
from worker.conditions.facts import BudgetFacts, OutageFacts, SharedFacts
from worker.overview.budget import load_budget, load_outage

if TYPE_CHECKING:
    from worker.nango.limiter import RateLimiter

GraphPauses = dict[str, dict[str, float]]
"""Seconds for which Graph asked to send nothing, by connection label and service."""

_LANES = (RunTrigger.SCHEDULED, RunTrigger.BACKFILL)


def load_shared_facts(limiter: "RateLimiter", *, is_set: bool) -> SharedFacts:
    """Return what all workers share; ``is_set``: the budget's limit is a setting of ours.

    While Redis cannot be used, only that is known.
    """
    problem = limiter.find_write_error()
    budget, outage = load_budget(limiter, is_set=is_set), load_outage(limiter)
    allowances = {lane.value: limiter.read_allowance(lane) for lane in _LANES} if budget else {}
    return SharedFacts(
        budget=BudgetFacts(**budget, allowances=allowances) if budget else None,
        outage=OutageFacts(**outage) if outage else None,
        shortage=limiter.read_shortage(),
        redis_problem=problem,
    )


def load_pauses(limiter: "RateLimiter", labels: Collection[str]) -> GraphPauses:
    """Return the pauses that Graph asked for, of the connections that have any."""
    from worker.graph.throttle import SERVICES

    return limiter.read_pauses(labels, SERVICES)
