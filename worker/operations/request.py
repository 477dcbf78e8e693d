"""What an operator asks for: an action, its parameters, and the connections. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from models.operation import Action
from models.resources import RESOURCES
from worker.core.errors import InvalidInput
from worker.sync.finish.approve import SeenSet


class ResyncParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a resync: which resources (none: all), and whether everything is read."""

    resources: tuple[str, ...] = ()
    full: bool = False


class PauseParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a pause: why, and until when (None: until somebody resumes it)."""

    reason: str | None = None
    until: datetime | None = None


class ResumeParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a resume: none."""


class DecisionParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an approval or a rejection: what the operator saw held, by resource."""

    expected: dict[str, SeenSet]


Parameters = ResyncParameters | PauseParameters | ResumeParameters | DecisionParameters

PARAMETERS: Final[Mapping[Action, type[Parameters]]] = {
    Action.RESYNC: ResyncParameters,
    Action.PAUSE: PauseParameters,
    Action.RESUME: ResumeParameters,
    Action.APPROVE: DecisionParameters,
    Action.REJECT: DecisionParameters,
}

SINGLE_ACTIONS: Final = frozenset({Action.APPROVE, Action.REJECT})
"""Actions on one connection at a time: an operator looks at what is held of each."""


@dataclass(frozen=True)
class OperationRequest:
    """An action on connections."""

    action: Action
    connection_ids: Sequence[int]
    parameters: Parameters
    expected_count: int | None = None
    """How many connections the operator confirmed, where a filter chose them."""
    chosen_by: Mapping[str, Any] | None = None
    """The filter that chose them, for the record."""

    def build_stored_parameters(self) -> dict[str, Any]:
        """Return the parameters as they are stored, with the filter."""
        stored: dict[str, Any] = msgspec.to_builtins(self.parameters)
        return stored | ({"filter": dict(self.chosen_by)} if self.chosen_by is not None else {})


def parse_parameters(action: Action, given: Mapping[str, Any]) -> Parameters:
    """Return the parameters of an action. Raises InvalidInput, which says what is wrong."""
    values = {name: value for name, value in given.items() if name != "filter"}
    try:
        found: Parameters = msgspec.convert(values, PARAMETERS[action])
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{action}: {error}") from None
    if isinstance(found, ResyncParameters) and (unknown := set(found.resources) - RESOURCES.keys()):
        names = ", ".join(sorted(one[:40] for one in unknown))
        raise InvalidInput(f"{names}: no such resource; there are {', '.join(RESOURCES)}")
    return found
