"""The intervals and limits of one connection: defaults, and overrides from its Nango metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

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


_BOUNDS: Final[Mapping[str, tuple[type, float, float]]] = {
    "enabled": (bool, 0, 1),
    "initial_events": (bool, 0, 1),
    "delta_seconds": (int, 60, 86_400),
    "roles_seconds": (int, 60, 604_800),
    "sites_seconds": (int, 300, 604_800),
    "full_walk_seconds": (int, 3600, 2_592_000),
    "guard_percent": (int, 1, 100),
    "guard_rows": (int, 0, 1_000_000),
}


def apply_overrides(policy: Policy, wanted: Any) -> tuple[Policy, str | None]:
    """Return the policy with a customer's overrides, and what is wrong with these, if anything.

    Anyone with access to Nango's metadata can write them: each is checked by itself, and an invalid
    one is reported while the default applies.
    """
    if wanted is None:
        return policy, None
    if not isinstance(wanted, dict):
        return policy, f"metadata key {METADATA_KEY} must hold an object"
    problems, values = [], {}
    for name, value in wanted.items():
        problem = _find_problem(str(name), value)
        if problem:
            problems.append(problem)
        else:
            values[str(name)] = value
    return replace(policy, **values), "; ".join(problems) or None


def _find_problem(name: str, value: object) -> str | None:
    if name not in _BOUNDS:
        return f"{name[:40]!r} is not a setting ({', '.join(_BOUNDS)})"
    kind, low, high = _BOUNDS[name]
    if type(value) is not kind:
        return f"{name} must be {'true or false' if kind is bool else 'a whole number'}"
    if not low <= value <= high:  # type: ignore[operator]
        return f"{name} must be from {low:g} to {high:g}"
    return None
