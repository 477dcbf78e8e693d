"""Relations with few edges for each parent: owners, members of units, managers."""

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple, Self

from sandbox.tenant.directory.fields import MANAGER
from sandbox.tenant.directory.members import Edges, Member, MemberType
from sandbox.tenant.directory.object_store import ObjectStore

Draw = Callable[[Random], list[Member]]
_REPORTS = 8
"""People below one manager, as generated."""


class FirstObjects(NamedTuple):
    """The objects that a tenant begins with; later ones do not change what was generated."""

    shelf: ObjectStore
    kind: MemberType
    total: int

    @classmethod
    def of(cls, shelf: ObjectStore, kind: MemberType) -> Self:
        return cls(shelf, kind, shelf.total)

    def draw(self, rng: Random, count: int) -> Iterator[Member]:
        """Yield up to `count` different ones."""
        for index in rng.sample(range(self.total), min(count, self.total)):
            yield Member(self.shelf.id_at(index), self.kind)


class FewEdges(Edges):
    """Edges that `draw` makes for each of the first `count` parents."""

    def __init__(
        self,
        seed: int,
        resource: str,
        relation: str,
        parents: ObjectStore,
        *,
        count: int,
        draw: Draw,
    ) -> None:
        super().__init__(resource, relation, parents)
        self._seed, self._count, self._draw = seed, count, draw
        self._drawn: dict[int, list[Member]] = {}

    def _generated(self, parent: int) -> list[Member]:
        if parent >= self._count:
            return []
        found = self._drawn.get(parent)
        if found is None:
            rng = Random(f"{self._seed}/{self.resource}/{parent}")
            found = self._drawn[parent] = self._draw(rng)
        return found

    def count_generated(self, parent: int) -> int:
        return len(self._generated(parent))

    def generate(self, parent: int, slot: int) -> Member:
        return self._generated(parent)[slot]

    def find_generated(self, parent: int, member_id: str) -> int | None:
        wanted = member_id.lower()
        found = (n for n, one in enumerate(self._generated(parent)) if one.id.lower() == wanted)
        return next(found, None)


class Managers(Edges):
    """The manager of a user: a tree of generated users, with the first one at its top."""

    def __init__(self, users: ObjectStore, *, generated: bool) -> None:
        super().__init__("managers", MANAGER, users)
        self._count = users.generated_count if generated else 0

    def count_generated(self, parent: int) -> int:
        # Some have none, as in every directory.
        return int(0 < parent < self._count and parent % 10 != 0)

    def generate(self, parent: int, slot: int) -> Member:  # noqa: ARG002  # there is only one
        return Member(self.parents.id_at((parent - 1) // _REPORTS), "user")

    def find_generated(self, parent: int, member_id: str) -> int | None:  # noqa: ARG002  # `slot_of` compares
        return 0

    def find_parents(self, member_id: str, start: int = 0) -> Iterator[int]:
        manager = self.parents.index_of(member_id)
        if manager is None:
            return
        below = range(manager * _REPORTS + 1, manager * _REPORTS + _REPORTS + 1)
        for parent in sorted({*below, *self.changed}):
            if parent >= start and self.slot_of(parent, member_id) is not None:
                yield parent
