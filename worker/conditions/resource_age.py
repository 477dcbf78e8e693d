"""How old the resources of a connection are, and which of them are not to be read. Pure."""

from collections.abc import Sequence
from math import inf

import msgspec
from msgspec import structs

from models.resources import EDGES, RESOURCES
from models.stream import compute_late_after


class ResourceAge(msgspec.Struct, frozen=True, gc=False):
    """How old one resource of a connection is."""

    resource: str
    fresh_at: float | None
    """When its last complete read began, in Unix seconds; None if it was never loaded."""
    interval_seconds: float | None
    """Seconds between two reads; None if it was never read."""

    is_licensed: bool = True
    """Whether it can be read; False where the tenant lacks the licence, so that nothing is late."""

    first_due_at: float | None = None
    """When it was to be read first if it was added later, in Unix seconds."""
    is_on: bool = True
    """Whether the settings let it be read."""
    off_edges: tuple[str, ...] = ()
    """Resources that would be read with it and are off."""

    @property
    def is_read(self) -> bool:
        """Whether it is to be read: it is on, and the tenant has the licence for it."""
        return self.is_on and self.is_licensed

    @property
    def is_new(self) -> bool:
        """Whether it was added to a connection that is mirrored already, and was never loaded."""
        return self.is_on and self.fresh_at is None and self.first_due_at is not None

    def compute_start(self, created_at: float) -> float:
        """Return when it was to be read first: at the enrolment, unless it was added later."""
        return max(created_at, self.first_due_at or created_at)

    def compute_late_at(self, created_at: float) -> float:
        """Return from when on it is late, in Unix seconds: never one that is not to be read.

        It is counted from when it was to be read first if it was never loaded.
        """
        if not self.is_read:
            return inf
        since = self.compute_start(created_at) if self.fresh_at is None else self.fresh_at
        return since + compute_late_after(self.interval_seconds)


def list_off(ages: Sequence[ResourceAge]) -> frozenset[str]:
    """Return the resources that the settings do not let be read; an edge is off with its parent."""
    found = {one.resource for one in ages if not one.is_on}
    edges = {edge.name for edge in EDGES if edge.parent in found}
    return frozenset(found | edges).union(*(one.off_edges for one in ages))


def list_ages(ages: Sequence[ResourceAge]) -> dict[str, ResourceAge]:
    """Return the age of every resource; edges are as old as their parent, and may be off."""
    by_stream = {one.resource: one for one in ages}
    found = {}
    for name, resource in RESOURCES.items():
        age = by_stream[resource.parent or name]
        is_off = name in age.off_edges
        found[name] = structs.replace(age, is_on=False, fresh_at=None) if is_off else age
    return found
