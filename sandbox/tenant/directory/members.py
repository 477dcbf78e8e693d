"""Edges: computed from (parent, slot), with an overlay of changes. Memberships are some of them.

A slot keeps its number for ever, so that a walk in slices misses no member when the group changes
meanwhile. These are stored edges; whether an edge is live also depends on its ends.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import gcd
from typing import Literal, NamedTuple

from sandbox.tenant.directory.fields import MEMBERS
from sandbox.tenant.directory.ids import Guids
from sandbox.tenant.directory.object_store import ObjectStore

MemberType = Literal["user", "group", "device", "servicePrincipal", "orgContact"]

_TYPE_CYCLE = 20
_GROUP_OFFSET, _PRINCIPAL_OFFSET = 7, 15
_TYPE_BY_OFFSET: dict[int, MemberType] = {
    _GROUP_OFFSET: "group",
    11: "device",
    _PRINCIPAL_OFFSET: "servicePrincipal",
    19: "orgContact",
}
_FOREIGN_TYPES: tuple[MemberType, ...] = ("device", "servicePrincipal", "orgContact")
_GROUPS_PER_GROUP = 4
"""Groups in a group, as generated: the groups are a tree, with a circle here and there."""
_CIRCLES = 16
"""One in so many of the groups without groups below it contains the group that it lies in."""
_SLOTS_PER_GROUP = 2_000_003  # slots of one group never reach the next group's foreign ids


class Member(NamedTuple):
    id: str
    type: MemberType


class LoggedEdge(NamedTuple):
    """A change of an edge that is no membership, in a log of changes."""

    relation: str
    member: Member


@dataclass(slots=True)
class _EdgeChanges:
    removed: set[int] = field(default_factory=set)
    added: list[Member] = field(default_factory=list)
    slots: dict[str, int] = field(default_factory=dict)


class Edges(ABC):
    """The edges of one relation, by the index of their parent."""

    def __init__(self, resource: str, relation: str, parents: ObjectStore) -> None:
        self.resource, self.relation, self.parents = resource, relation, parents
        self._changes: dict[int, _EdgeChanges] = {}
        self.unsaved: set[int] = set()
        """Parents whose edges changed since they were last saved (`StateFile`)."""

    @abstractmethod
    def count_generated(self, parent: int) -> int:
        """Return the number of slots that were generated for a parent."""

    @abstractmethod
    def generate(self, parent: int, slot: int) -> Member:
        """Return what was generated in a slot."""

    @abstractmethod
    def find_generated(self, parent: int, member_id: str) -> int | None:
        """Return the slot in which an id would have been generated, if any."""

    def count_slots(self, parent: int) -> int:
        changes = self._changes.get(parent)
        return self.count_generated(parent) + (len(changes.added) if changes else 0)

    def member_at(self, parent: int, slot: int) -> Member | None:
        """Return the member in a slot; None once removed."""
        changes, size = self._changes.get(parent), self.count_generated(parent)
        if changes and slot in changes.removed:
            return None
        if slot >= size:
            return changes.added[slot - size] if changes else None
        return self.generate(parent, slot)

    def iterate_members(self, parent: int) -> Iterator[Member]:
        for slot in range(self.count_slots(parent)):
            member = self.member_at(parent, slot)
            if member:
                yield member

    def slot_of(self, parent: int, member_id: str) -> int | None:
        """Return the slot of a member; None if it is not there."""
        changes = self._changes.get(parent)
        if changes and member_id.lower() in changes.slots:
            return changes.slots[member_id.lower()]
        slot = self.find_generated(parent, member_id)
        if slot is None or not 0 <= slot < self.count_generated(parent):
            return None
        if changes and slot in changes.removed:
            return None
        member = self.member_at(parent, slot)
        return slot if member and member.id.lower() == member_id.lower() else None

    def find_parents(self, member_id: str, start: int = 0) -> Iterator[int]:
        """Yield the parents from `start` on that store the member, live or not."""
        for parent in range(start, self.parents.total):
            if self.slot_of(parent, member_id) is not None:
                yield parent

    def add(self, parent: int, member: Member) -> bool:
        """Add a member; return False if it is there already."""
        if self.slot_of(parent, member.id) is not None:
            return False
        changes = self._changes.setdefault(parent, _EdgeChanges())
        changes.slots[member.id.lower()] = self.count_slots(parent)
        changes.added.append(member)
        self.unsaved.add(parent)
        return True

    def remove(self, parent: int, member_id: str) -> Member | None:
        """Remove a member and return it; None if it is not there."""
        slot = self.slot_of(parent, member_id)
        if slot is None:
            return None
        member = self.member_at(parent, slot)
        changes = self._changes.setdefault(parent, _EdgeChanges())
        changes.removed.add(slot)
        changes.slots.pop(member_id.lower(), None)
        self.unsaved.add(parent)
        return member

    @property
    def changed(self) -> list[int]:
        """The parents whose edges were changed."""
        return sorted(self._changes)

    def get_changes(self, parent: int) -> tuple[list[int], list[Member]]:
        """Return the removed slots and the added members, in the order of slots."""
        changes = self._changes.get(parent, _EdgeChanges())
        return sorted(changes.removed), list(changes.added)

    def restore_changes(self, parent: int, removed: list[int], added: list[Member]) -> None:
        """Restore a parent's saved changes."""
        first, gone = self.count_generated(parent), set(removed)
        slots = {m.id.lower(): n for n, m in enumerate(added, first) if n not in gone}
        self._changes[parent] = _EdgeChanges(gone, added, slots)


class Members(Edges):
    """Memberships: 0 to twice `average` a group; the first `big` groups have `big_size`.

    Service principals among them are those of the tenant, as far as these suffice.
    """

    def __init__(
        self,
        seed: int,
        users: ObjectStore,
        groups: ObjectStore,
        service_principals: ObjectStore,
        *,
        average: int,
        big: int,
        big_size: int,
    ) -> None:
        super().__init__("group_members", MEMBERS, groups)
        self._users, self._groups = users, groups
        self._principals = [service_principals.id_at(n) for n in range(service_principals.total)]
        self._principal_places = {one: n for n, one in enumerate(self._principals)}
        self._average, self._big, self._big_size = average, big, big_size
        self._foreign_ids = {kind: Guids(seed, kind) for kind in _FOREIGN_TYPES}
        count = max(users.generated_count, 1)
        self._stride = count * 618 // 1000 or 1
        while gcd(self._stride, count) != 1:
            self._stride += 1
        self._inverse = pow(self._stride, -1, count) if count > 1 else 0

    @property
    def parameters(self) -> tuple[int, int, int]:
        """The parameters of the generated memberships."""
        return self._average, self._big, self._big_size

    def count_generated(self, parent: int) -> int:
        if parent >= self._groups.generated_count:
            return 0
        size = self._big_size if parent < self._big else parent * 7919 % (2 * self._average + 1)
        return min(size, self._users.generated_count)

    def _find_nested(self, parent: int, turn: int) -> int | None:
        """Return the group in a group's slot for groups; None: a user is there instead."""
        first, count = parent * _GROUPS_PER_GROUP + 1, self._groups.generated_count
        if turn < _GROUPS_PER_GROUP and first + turn < count:
            return first + turn
        closes_circle = parent and not turn and first >= count and parent % _CIRCLES == 0
        return (parent - 1) // _GROUPS_PER_GROUP if closes_circle else None

    def generate(self, parent: int, slot: int) -> Member:
        kind, turn = _TYPE_BY_OFFSET.get(slot % _TYPE_CYCLE, "user"), slot // _TYPE_CYCLE
        if kind == "group":
            nested = self._find_nested(parent, turn)
            if nested is not None:
                return Member(self._groups.id_at(nested), kind)
            kind = "user"
        if kind == "user":
            index = (parent * 31 + slot * self._stride) % self._users.generated_count
            return Member(self._users.id_at(index), kind)
        if kind == "servicePrincipal" and turn < len(self._principals):
            return Member(self._principals[(parent + turn) % len(self._principals)], kind)
        return Member(self._foreign_ids[kind].id_at(parent * _SLOTS_PER_GROUP + slot), kind)

    def find_generated(self, parent: int, member_id: str) -> int | None:
        index = self._users.index_of(member_id)
        if index is not None:
            count = self._users.generated_count
            return (index - parent * 31) * self._inverse % count if index < count else None
        index = self._groups.index_of(member_id)
        if index is not None:
            for turn in range(_GROUPS_PER_GROUP):
                if self._find_nested(parent, turn) == index:
                    return turn * _TYPE_CYCLE + _GROUP_OFFSET
            return None
        for guids in self._foreign_ids.values():
            index = guids.index_of(member_id)
            if index is not None:
                return index - parent * _SLOTS_PER_GROUP
        place = self._principal_places.get(member_id.lower())
        if place is None:
            return None
        return (place - parent) % len(self._principals) * _TYPE_CYCLE + _PRINCIPAL_OFFSET
