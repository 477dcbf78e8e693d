"""The intervals and limits of one connection: defaults, and overrides from its Nango metadata."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from worker.core.config import load_values
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
    full_walk_seconds: float = 604_800
    first_full_walk_seconds: float = 86_400
    cursor_days: float = 6
    guard_percent: float = 20
    guard_rows: int = 50
    enabled: bool = True
    initial_events: bool = True
    """Whether sinks get the events of first loads; the delivery reads it from the settings."""

    @classmethod
    def from_settings(cls, settings: Settings) -> "Policy":
        names = {field.name for field in fields(cls)} - {"enabled", "initial_events"}
        return cls(**{name: getattr(settings, name) for name in names})

    def get_interval(self, stream: Stream) -> float:
        """Return the seconds between two reads of a stream."""
        return max(float(getattr(self, name)) for name in stream.source.intervals)


class CustomerSettings(msgspec.Struct):
    """What a customer's Nango metadata may set; what is unset follows the service's settings."""

    enabled: bool | UnsetType = UNSET
    delta_seconds: Annotated[int, Meta(ge=60, le=86_400)] | UnsetType = UNSET
    roles_seconds: Annotated[int, Meta(ge=60, le=604_800)] | UnsetType = UNSET
    sites_seconds: Annotated[int, Meta(ge=300, le=604_800)] | UnsetType = UNSET
    full_walk_seconds: Annotated[int, Meta(ge=3600, le=2_592_000)] | UnsetType = UNSET
    guard_percent: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    guard_rows: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    initial_events: bool | UnsetType = UNSET


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
    return replace(policy, **values), "; ".join(map(str, mistakes)) or None
