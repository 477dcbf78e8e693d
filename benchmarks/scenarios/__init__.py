"""The scenarios, in the order in which they run."""

from typing import Final

from benchmarks.results import Scenario
from benchmarks.scenarios import (
    call_counts,
    deletions,
    dispatch,
    exports,
    fleet,
    freshness,
    groups,
    latency,
    memory,
    mixed,
    nesting,
    onboarding,
    relay,
    startup,
    users,
    web,
)

SCENARIOS: Final[dict[str, Scenario]] = {
    one.SCENARIO.name: one.SCENARIO
    for one in (
        users,
        groups,
        deletions,
        nesting,
        exports,
        mixed,
        latency,
        memory,
        call_counts,
        startup,
        dispatch,
        relay,
        freshness,
        fleet,
        onboarding,
        web,
    )
}
