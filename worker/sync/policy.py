"""The intervals and limits of one connection: defaults, and overrides from its Nango metadata."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from models.resource import Resource
from models.resources import EDGES_IN, RESOURCES
from models.switches import find_off, list_droppable
from worker.core.config import MAX_QUOTED_NAME, Mistake, load_values
from worker.core.settings import Settings
from worker.store.state.streams import Stream

METADATA_KEY: Final = "tenant_mirror"
"""Tenant Mirror's key in a connection's Nango metadata; other keys belong to other software."""


@dataclass(frozen=True)
class Policy:
    """The intervals (seconds), shares and counts that govern the sync of one connection."""

    delta_seconds: float = 300
    listing_seconds: float = 3600
    roles_seconds: float = 900
    roles_filtered_seconds: float = 3600
    sites_seconds: float = 21_600
    daily_seconds: float = 86_400
    app_roles_seconds: float = 3600
    other_app_roles_seconds: float = 86_400
    full_walk_seconds: float = 604_800
    first_full_walk_seconds: float = 86_400
    cursor_days: float = 6
    guard_percent: float = 20
    guard_rows: int = 50
    enabled: bool = True
    initial_events: bool = True
    """Whether sinks get the events of first loads; the delivery reads it from the settings."""
    switches: Mapping[str, bool] = field(default_factory=dict)
    """Whether resources are on, where that is set."""
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Graph properties that are not mirrored, by resource."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "Policy":
        own = {"enabled", "initial_events", "switches", "left_out"}
        names = {field.name for field in fields(cls)} - own
        on, off = settings.resources_on, settings.resources_off
        switches = dict.fromkeys(on, True) | dict.fromkeys(off, False)
        return cls(**{name: getattr(settings, name) for name in names}, switches=switches)

    @cached_property
    def off(self) -> frozenset[str]:
        """The resources that are not mirrored."""
        return find_off(self.switches)

    def list_dropped(self, resource: Resource) -> list[str]:
        """Return the Graph properties, and the relations of edges, that are not to be read."""
        edges = EDGES_IN[resource.name]
        relations = {edge.relation for edge in edges if edge.name in self.off}
        return sorted(relations | self.left_out.get(resource.name, frozenset()))

    def get_interval(self, stream: Stream) -> float:
        """Return the seconds between two reads of a stream."""
        return max(float(getattr(self, name)) for name in stream.source.intervals)

    def get_full_walk_interval(self, stream: Stream) -> float:
        """Return the seconds between two full walks of a stream that follows deltas."""
        return float(getattr(self, stream.source.full_walk or "full_walk_seconds"))


def load_policy(settings: Settings, stored: Mapping[str, Any]) -> Policy:
    """Return a connection's policy, from the service's settings and those stored with it."""
    policy, _ = apply_overrides(Policy.from_settings(settings), stored.get(METADATA_KEY))
    return policy


class CustomerSettings(msgspec.Struct):
    """What a customer's Nango metadata may set; what is unset follows the service's settings."""

    enabled: bool | UnsetType = UNSET
    delta_seconds: Annotated[int, Meta(ge=60, le=86_400)] | UnsetType = UNSET
    roles_seconds: Annotated[int, Meta(ge=60, le=604_800)] | UnsetType = UNSET
    sites_seconds: Annotated[int, Meta(ge=300, le=604_800)] | UnsetType = UNSET
    daily_seconds: Annotated[int, Meta(ge=3600, le=604_800)] | UnsetType = UNSET
    app_roles_seconds: Annotated[int, Meta(ge=300, le=604_800)] | UnsetType = UNSET
    other_app_roles_seconds: Annotated[int, Meta(ge=3600, le=604_800)] | UnsetType = UNSET
    full_walk_seconds: Annotated[int, Meta(ge=3600, le=2_592_000)] | UnsetType = UNSET
    guard_percent: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    guard_rows: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    initial_events: bool | UnsetType = UNSET
    resources: dict[str, Any] | UnsetType = UNSET
    leave_out: dict[str, Any] | UnsetType = UNSET


def apply_overrides(policy: Policy, wanted: Any) -> tuple[Policy, str | None]:
    """Return the policy with a customer's overrides, and what is wrong with these, if anything.

    Anyone with access to Nango's metadata can write them: each is checked by itself, and an invalid
    one is reported while the default applies.
    """
    if wanted is None:
        return policy, None
    if not isinstance(wanted, dict):
        return policy, f"metadata key {METADATA_KEY} must hold an object"
    values, mistakes = load_values(CustomerSettings, wanted)
    switches, wrong_switches = _load_switches(values.pop("resources", {}))
    left_out, wrong_properties = _load_left_out(values.pop("leave_out", {}))
    mistakes += [*wrong_switches, *wrong_properties]
    values |= {"switches": {**policy.switches, **switches}, "left_out": left_out}
    return replace(policy, **values), "; ".join(map(str, mistakes)) or None


def _load_switches(wanted: Mapping[str, Any]) -> tuple[dict[str, bool], list[Mistake]]:
    """Return the switches that can be used, and what is wrong with the others."""
    mistakes = list(_check_resources("resources", wanted))
    known = {name: value for name, value in wanted.items() if name in RESOURCES}
    mistakes += [
        Mistake(f"resources.{name}", "must be true or false")
        for name, value in known.items()
        if not isinstance(value, bool)
    ]
    return {name: value for name, value in known.items() if isinstance(value, bool)}, mistakes


def _load_left_out(wanted: Mapping[str, Any]) -> tuple[dict[str, frozenset[str]], list[Mistake]]:
    """Return the properties that can be left out, and what is wrong with the others."""
    mistakes, found = list(_check_resources("leave_out", wanted)), {}
    for name in wanted.keys() & RESOURCES.keys():
        allowed, names = list_droppable(RESOURCES[name]), wanted[name]
        if not isinstance(names, list):
            mistakes.append(Mistake(f"leave_out.{name}", "must be a list of Graph's properties"))
            continue
        some = [one for one in names if one in allowed]
        if len(some) < len(names):
            rest = [repr(str(one)[:MAX_QUOTED_NAME]) for one in names if one not in allowed]
            can = ", ".join(allowed) or "no property of it"
            problem = f"names {', '.join(rest)}, which cannot be left out ({can} can)"
            mistakes.append(Mistake(f"leave_out.{name}", problem))
        if some:
            found[name] = frozenset(some)
    return found, mistakes


def _check_resources(setting: str, wanted: Mapping[str, Any]) -> Iterator[Mistake]:
    """Report names that are not resources."""
    if unknown := [name for name in wanted if name not in RESOURCES]:
        names = ", ".join(repr(name[:MAX_QUOTED_NAME]) for name in unknown)
        yield Mistake(setting, f"names {names}; the resources are {', '.join(RESOURCES)}")
