"""Memberships: edges computed from (group, slot), with an overlay of changes.

A slot keeps its number for ever, so that a walk in slices misses no member when the group changes
meanwhile. These are stored memberships; whether an edge is live also depends on its ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import gcd
from typing import Literal, NamedTuple

from sandbox.tenant.directory.ids import Guids
from sandbox.tenant.directory.object_store import ObjectStore

MemberType = Literal["user", "group", "device", "servicePrincipal", "orgContact"]

_TYPE_CYCLE = 20
_GROUP_OFFSET = 7
_TYPE_BY_OFFSET: dict[int, MemberType] = {
    _GROUP_OFFSET: "group",
    11: "device",
    15: "servicePrincipal",
    19: "orgContact",
}
_FOREIGN_TYPES: tuple[MemberType, ...] = ("device", "servicePrincipal", "orgContact")
_SLOTS_PER_GROUP = 2_000_003  # slots of one group never reach the next group's foreign ids


class Member(NamedTuple):
    id: str
    type: MemberType


@dataclass(slots=True)
class _MemberChanges:
    removed: set[int] = field(default_factory=set)
    added: list[Member] = field(default_factory=list)
    slots: dict[str, int] = field(default_factory=dict)


class Members:
    """Memberships: 0 to twice `average` a group; the first `big` groups have `big_size`."""

    def __init__(
        self,
        seed: int,
        users: ObjectStore,
        groups: ObjectStore,
        *,
        average: int,
        big: int,
        big_size: int,
    ) -> None:
        self._users, self._groups = users, groups
        self._average, self._big, self._big_size = average, big, big_size
        self._foreign_ids = {kind: Guids(seed, kind) for kind in _FOREIGN_TYPES}
        self._changes: dict[int, _MemberChanges] = {}
        self.unsaved: set[int] = set()
        """Groups whose members changed since they were last saved (`StateFile`)."""
        count = max(users.generated_count, 1)
        self._stride = count * 618 // 1000 or 1
        while gcd(self._stride, count) != 1:
            self._stride += 1
        self._inverse = pow(self._stride, -1, count) if count > 1 else 0

    @property
    def parameters(self) -> tuple[int, int, int]:
        """The parameters of the generated memberships."""
        return self._average, self._big, self._big_size

    def count_generated(self, group: int) -> int:
        """Return the number of slots that were generated for a group."""
        if group >= self._groups.generated_count:
            return 0
        size = self._big_size if group < self._big else group * 7919 % (2 * self._average + 1)
        return min(size, self._users.generated_count)

    def count_slots(self, group: int) -> int:
        changes = self._changes.get(group)
        return self.count_generated(group) + (len(changes.added) if changes else 0)

    def _type_at(self, slot: int) -> MemberType:
        kind = _TYPE_BY_OFFSET.get(slot % _TYPE_CYCLE, "user")
        # With more, the groups would repeat, or contain themselves.
        too_many = kind == "group" and slot // _TYPE_CYCLE >= self._groups.generated_count - 1
        return "user" if too_many else kind

    def member_at(self, group: int, slot: int) -> Member | None:
        """Return the member in a slot; None once removed."""
        changes, size = self._changes.get(group), self.count_generated(group)
        if changes and slot in changes.removed:
            return None
        if slot >= size:
            return changes.added[slot - size] if changes else None
        kind = self._type_at(slot)
        if kind == "user":
            index = (group * 31 + slot * self._stride) % self._users.generated_count
            return Member(self._users.id_at(index), kind)
        if kind == "group":
            index = (group + 1 + slot // _TYPE_CYCLE) % self._groups.generated_count
            return Member(self._groups.id_at(index), kind)
        return Member(self._foreign_ids[kind].id_at(group * _SLOTS_PER_GROUP + slot), kind)

    def iterate_members(self, group: int) -> Iterator[Member]:
        for slot in range(self.count_slots(group)):
            member = self.member_at(group, slot)
            if member:
                yield member

    def slot_of(self, group: int, member_id: str) -> int | None:
        """Return the slot of a member; None if it is not in the group."""
        changes = self._changes.get(group)
        if changes and member_id.lower() in changes.slots:
            return changes.slots[member_id.lower()]
        slot = self._generated_slot(group, member_id)
        if slot is None or not 0 <= slot < self.count_generated(group):
            return None
        if changes and slot in changes.removed:
            return None
        member = self.member_at(group, slot)
        return slot if member and member.id.lower() == member_id.lower() else None

    def _generated_slot(self, group: int, member_id: str) -> int | None:
        index = self._users.index_of(member_id)
        if index is not None:
            count = self._users.generated_count
            return (index - group * 31) * self._inverse % count if index < count else None
        index = self._groups.index_of(member_id)
        if index is not None:
            count = self._groups.generated_count
            if index >= count:
                return None
            return (index - group - 1) % count * _TYPE_CYCLE + _GROUP_OFFSET
        for guids in self._foreign_ids.values():
            index = guids.index_of(member_id)
            if index is not None:
                return index - group * _SLOTS_PER_GROUP
        return None

    def find_groups(self, member_id: str, start: int = 0) -> Iterator[int]:
        """Yield the groups from `start` on that store the member, live or not."""
        for group in range(start, self._groups.total):
            if self.slot_of(group, member_id) is not None:
                yield group

    def add(self, group: int, member: Member) -> bool:
        """Add a member; return False if it is in the group already."""
        if self.slot_of(group, member.id) is not None:
            return False
        changes = self._changes.setdefault(group, _MemberChanges())
        changes.slots[member.id.lower()] = self.count_slots(group)
        changes.added.append(member)
        self.unsaved.add(group)
        return True

    def remove(self, group: int, member_id: str) -> Member | None:
        """Remove a member and return it; None if it is not in the group."""
        slot = self.slot_of(group, member_id)
        if slot is None:
            return None
        member = self.member_at(group, slot)
        changes = self._changes.setdefault(group, _MemberChanges())
        changes.removed.add(slot)
        changes.slots.pop(member_id.lower(), None)
        self.unsaved.add(group)
        return member

    def get_changes(self, group: int) -> tuple[list[int], list[Member]]:
        """Return the removed slots and the added members, in the order of slots."""
        changes = self._changes.get(group, _MemberChanges())
        return sorted(changes.removed), list(changes.added)

    def restore_changes(self, group: int, removed: list[int], added: list[Member]) -> None:
        """Restore a group's saved changes."""
        first, gone = self.count_generated(group), set(removed)
        slots = {m.id.lower(): n for n, m in enumerate(added, first) if n not in gone}
        self._changes[group] = _MemberChanges(gone, added, slots)
