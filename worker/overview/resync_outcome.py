"""What became of a resync: the latest run since it was requested, or what it waits for. Pure."""

from datetime import datetime
from typing import Any

import msgspec

from models.run import RunState
from worker.conditions.activity import Activity
from worker.overview.fleet import FleetConnection


class ResyncOutcome(msgspec.Struct, frozen=True):
    """The sync that a resync led to, as far as it has come."""

    run_id: int | None
    """The latest run since then; None if none has run since."""
    state: RunState | None
    at: datetime | None
    """When that run ended, or began if it is under way."""
    waits: str | None
    """What the connection waits for; None once a run has served the request."""
    next_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether a run has served the request."""
        return self.waits is None and self.state not in (None, RunState.RUNNING)

    def to_json(self) -> dict[str, Any]:
        """Return every field for programs."""
        return {
            "is_over": self.is_over,
            "run_id": self.run_id,
            "run_state": self.state,
            "at": self.at,
            "waits": self.waits,
            "next_at": self.next_at,
        }


def find_resync_outcome(
    one: FleetConnection | None, since: datetime | None, activity: Activity | None = None
) -> ResyncOutcome | None:
    """Return what became of a resync that was recorded at a time; None if there is none.

    ``activity`` stands for what the connection does now.
    """
    if one is None or since is None:
        return None
    facts = one.facts
    if facts.running_id is not None:
        state = RunState.RUNNING
        begun = facts.running_since
        return ResyncOutcome(facts.running_id, state, begun, None, None)
    activity = activity or one.activity
    waits, next_at = activity.sentence, activity.next_at
    ended = facts.last_finished_at
    if facts.last_run_id is None or facts.last_state is None or ended is None or ended < since:
        return ResyncOutcome(None, None, None, waits, next_at)
    state = RunState(facts.last_state)
    is_open = facts.requested_at is not None
    return ResyncOutcome(
        facts.last_run_id,
        state,
        ended,
        waits if is_open else None,
        next_at if is_open else None,
    )


def describe_resync_outcome(outcome: ResyncOutcome) -> str:
    """Return it as a sentence without its end: "run 12 partial; waits: due since 10:00:00 UTC"."""
    run = f"run {outcome.run_id} {outcome.state}" if outcome.run_id is not None else ""
    waits = f"waits: {outcome.waits}" if outcome.waits else ""
    return "; ".join(filter(None, (run, waits)))
