"""Which permission each customer has granted, by what the syncs have learnt. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Final

import msgspec

from models.connection import ConnectionStatus
from models.resources import RESOURCES
from worker.conditions.condition import Code, Condition
from worker.conditions.facts import ConnectionFacts, StreamFacts
from worker.conditions.reasons import classify_broken, is_not_offered
from worker.conditions.texts import write_permissions_text, write_reconnect_text
from worker.graph.organization import ORGANIZATION_PERMISSION
from worker.overview.fleet import Fleet, FleetConnection


class PermissionState(StrEnum):
    """What is known of a permission in a customer's tenant."""

    GRANTED = "granted"
    """What it unlocks was read."""
    MISSING = "missing"
    """Graph refused what it unlocks."""
    NOT_OFFERED = "not_offered"
    """The tenant does not have what it unlocks, so that nothing is lacking."""
    NOT_LICENSED = "not_licensed"
    """The tenant lacks the licence for what it unlocks; whether it is granted is not known."""
    NOT_USED = "not_used"
    """All that it unlocks is switched off, so that it is not asked for."""
    UNKNOWN = "unknown"
    """What it unlocks was never read, or the connection cannot read anything now."""


def _group_resources() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {ORGANIZATION_PERMISSION: []}
    for one in RESOURCES.values():
        found.setdefault(one.permission, []).append(one.name)
    return MappingProxyType({name: tuple(resources) for name, resources in found.items()})


UNLOCKS: Final = _group_resources()
"""The resources that each permission unlocks; that of the organization unlocks all of them."""

_UNUSED: Final = frozenset((ConnectionStatus.RETIRED, ConnectionStatus.DUPLICATE))


_ALL_GRANTED: Final[Mapping[str, PermissionState]] = MappingProxyType(
    dict.fromkeys(UNLOCKS, PermissionState.GRANTED)
)
"""What most customers have. It is one object for all of them."""


@cache
def _grant_all(off: frozenset[str]) -> Mapping[str, PermissionState]:
    """Return that everything is granted, and what of it is not used."""
    unused = [name for name, resources in UNLOCKS.items() if resources and off >= {*resources}]
    if not unused:
        return _ALL_GRANTED
    return MappingProxyType({**_ALL_GRANTED, **dict.fromkeys(unused, PermissionState.NOT_USED)})


class PermissionRow:
    """A customer, and the state of each permission."""

    __slots__ = ("connection", "missing", "states")

    def __init__(self, connection: FleetConnection, states: Mapping[str, PermissionState]) -> None:
        self.connection = connection
        self.states = states
        self.missing: Sequence[str] = ()
        if states is not _ALL_GRANTED:
            lacking = PermissionState.MISSING
            self.missing = [name for name, state in states.items() if state is lacking]

    @property
    def requests(self) -> "Sequence[PermissionRequest]":
        """What to ask the customer for: each missing permission."""
        return list_permission_requests(self.connection) if self.missing else []


class PermissionRequest(msgspec.Struct, frozen=True):
    """A permission that a customer has not granted, and what to send to them."""

    permission: str
    resources: Sequence[str]
    """What cannot be read without it; none: nothing can."""
    reasons: Sequence[str]
    """What was refused, and with which words."""
    text: str


def list_permission_requests(one: FleetConnection) -> list[PermissionRequest]:
    """Return the permissions that a customer can grant, each once, with all that it unlocks."""
    refused: dict[str, list[Condition]] = {}
    for condition in one.conditions:
        # Without a text there is nothing that the customer could do.
        if condition.code is Code.PERMISSION_MISSING and condition.customer_text is not None:
            name = condition.resource
            permission = RESOURCES[name].permission if name else ORGANIZATION_PERMISSION
            refused.setdefault(permission, []).append(condition)
    return [_build_request(one, name, refused[name]) for name in UNLOCKS if name in refused]


def _build_request(
    one: FleetConnection, permission: str, conditions: Sequence[Condition]
) -> PermissionRequest:
    refused = {condition.resource for condition in conditions} - {None}
    resources = [n for n, one in RESOURCES.items() if n in refused or one.parent in refused]
    text = (
        write_permissions_text(one.facts, [permission], resources)
        if resources
        else write_reconnect_text(one.facts, permission)
    )
    reasons = [condition.sentence for condition in conditions]
    return PermissionRequest(permission, resources, reasons, one.complete_text(text))


def write_whole_request(one: FleetConnection, requests: Sequence[PermissionRequest]) -> str | None:
    """Return one text that asks for all that is missing; None if nothing is."""
    for request in requests:
        if len(requests) == 1 or not request.resources:
            return request.text  # without the organization nothing else can be judged
    if not requests:
        return None
    resources = [name for request in requests for name in request.resources]
    names = [request.permission for request in requests]
    return one.complete_text(write_permissions_text(one.facts, names, resources))


def build_permission_rows(fleet: Fleet) -> Sequence[PermissionRow]:
    """Return the state of each permission at every customer that is in use, by id."""
    return [
        PermissionRow(one, judge_permissions(one.facts))
        for one in fleet.in_use
        if one.facts.status not in _UNUSED
    ]


def count_lacking(fleet: Fleet) -> int:
    """Return how many customers lack a permission."""
    return sum(bool(one.missing) for one in fleet.derive(build_permission_rows))


def count_states(
    rows: Sequence[PermissionRow],
) -> Mapping[str, Mapping[PermissionState, int]]:
    """Return for each permission how many customers have it in each state."""
    found: dict[str, Counter[PermissionState]] = {name: Counter() for name in UNLOCKS}
    for row in rows:
        if row.states is _ALL_GRANTED:
            continue
        for name, state in row.states.items():
            found[name][state] += 1
    whole = sum(row.states is _ALL_GRANTED for row in rows)
    for counts in found.values():
        counts[PermissionState.GRANTED] += whole
    return found


def judge_permissions(facts: ConnectionFacts) -> Mapping[str, PermissionState]:
    """Return the state of each permission, in the order of the registry."""
    is_whole = all(one.fresh_at is not None or not one.is_on for one in facts.freshness)
    off = facts.list_off()
    if (
        is_whole
        and facts.status != ConnectionStatus.BROKEN
        and not any(one.is_refused for one in facts.streams)
    ):
        return _grant_all(off)
    refused = {one.resource: one for one in facts.streams if one.is_refused}
    read = {one.resource for one in facts.freshness if one.fresh_at is not None}
    is_broken = facts.status == ConnectionStatus.BROKEN
    found = {}
    for name, resources in UNLOCKS.items():
        if name == ORGANIZATION_PERMISSION:
            state = _judge_organization(facts, was_read=bool(read))
        else:
            used = [_judge_resource(one, refused, read) for one in resources if one not in off]
            state = _combine(used) if used else PermissionState.NOT_USED
        if is_broken and state is PermissionState.GRANTED:
            state = PermissionState.UNKNOWN
        found[name] = state
    return found


def _judge_organization(facts: ConnectionFacts, *, was_read: bool) -> PermissionState:
    if facts.status == ConnectionStatus.BROKEN:
        is_refused = classify_broken(facts.status_reason) is Code.PERMISSION_MISSING
        return PermissionState.MISSING if is_refused else PermissionState.UNKNOWN
    return PermissionState.GRANTED if was_read else PermissionState.UNKNOWN


def _judge_resource(
    name: str, refused: Mapping[str, StreamFacts], read: Iterable[str]
) -> PermissionState:
    parent = RESOURCES[name].parent
    stream = refused.get(parent or name)
    if stream is None:
        is_read = (parent or name) in read
        return PermissionState.GRANTED if is_read else PermissionState.UNKNOWN
    if stream.is_not_licensed:
        return PermissionState.NOT_LICENSED
    if is_not_offered(stream.reason):
        return PermissionState.NOT_OFFERED
    # Edges are read with their parent. The refusal concerns the parent's permission.
    return PermissionState.UNKNOWN if parent else PermissionState.MISSING


_ORDER: Final = (
    PermissionState.MISSING,
    PermissionState.GRANTED,
    PermissionState.NOT_OFFERED,
    PermissionState.NOT_LICENSED,
    PermissionState.UNKNOWN,
)
"""The state that counts where the resources of one permission have different ones."""


def _combine(states: Sequence[PermissionState]) -> PermissionState:
    return min(states, key=_ORDER.index)
