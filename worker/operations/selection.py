"""Which connections a bulk action is for: those that match a filter, and that it can concern."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from models.connection import ConnectionStatus
from models.operation import Action
from worker.conditions.facts import ConnectionFacts
from worker.overview.fleet import Fleet
from worker.overview.listing import ConnectionFilter, match_ids


class TargetSelection(NamedTuple):
    """The connections of a bulk action."""

    ids: list[int]
    left_out: Mapping[ConnectionStatus, int]
    """Those that match and that it cannot concern, by their status, which is why."""


def select_targets(fleet: Fleet, action: Action, wanted: ConnectionFilter) -> TargetSelection:
    """Return the connections that match now and that an action can concern."""
    facts = [fleet.by_id[one].facts for one in match_ids(fleet, wanted)]
    ids = [one.id for one in facts if _is_meant(action, one)]
    others = Counter(ConnectionStatus(one.status) for one in facts if not _is_meant(action, one))
    return TargetSelection(ids, dict(others))


def _is_meant(action: Action, facts: ConnectionFacts) -> bool:
    return facts.is_synced if action is Action.RESYNC else facts.retired_at is None
