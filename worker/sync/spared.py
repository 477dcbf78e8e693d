"""What a sweep leaves alone, once its candidates have been read by id. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from models.resource import Kind
from models.resources import RESOURCES
from models.resources.groups import GROUPS
from models.unresolved import Part, PartKind, Unanswered
from worker.core.errors import Restart
from worker.store.edges import pair_of
from worker.store.unresolved import ALL

MOST_UNLISTED: Final = 20
"""Objects that exist although several complete lists did not show them; of more, the list lies."""


@dataclass
class Confirmed:
    """What reads by id said of the candidates of a sweep.

    ``present`` are those that exist, by resource; ``apart`` are the parts of which Graph does not
    say. ``sampled`` are the resources of which only some were asked about, and ``asked`` counts
    how many.
    """

    present: dict[str, set[str]] = field(default_factory=dict)
    apart: dict[Part, Unanswered] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    sampled: set[str] = field(default_factory=set)


@dataclass
class Spared:
    """What stays, and what is set apart."""

    kept: dict[str, set[str]] = field(default_factory=dict)
    """Candidates that stay, by resource."""
    groups: set[str] = field(default_factory=set)
    """Groups whose memberships stay."""
    weak: set[str] = field(default_factory=set)
    """Resources of which only what was asked about may go: too little of the sample answered."""
    apart: dict[Part, Unanswered] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        return bool(self.groups or self.weak or self.apart) or any(self.kept.values())

    @property
    def needs_walk(self) -> bool:
        """Whether only another complete list can tell what became of something."""
        return any(part.kind is PartKind.DELETIONS for part in self.apart)

    @property
    def is_unlisted(self) -> bool:
        """Whether something exists that the complete list did not show."""
        return any(part.kind is PartKind.UNLISTED for part in self.apart)

    def keep_unasked(self, name: str, number: int) -> None:
        """Note that so many candidates of a weak resource stay, as nobody asked about them."""
        if number:
            why = f"{number} of them could not be confirmed; the next walk asks again"
            self.apart[Part(name, PartKind.DELETIONS, ALL)] = Unanswered(why)


def spare(going: Iterable[str], confirmed: Confirmed, *, last: bool, best_effort: bool) -> Spared:
    """What stays of the deletions of the resources ``going``, of which some were asked about.

    Raises Restart where the walk missed what exists; not where it is the ``last`` of several that
    missed the same few objects: then the list does not show them, and they are set apart.
    """
    missed = {} if best_effort else {n: keys for n, keys in confirmed.present.items() if keys}
    number = sum(len(keys) for keys in missed.values())
    single = last and number <= MOST_UNLISTED and confirmed.sampled.isdisjoint(missed)
    if number and not single:
        raise Restart(f"the walk missed {number} objects that exist; it is begun again")
    spared = Spared(apart=dict(confirmed.apart))
    for name, keys in missed.items():
        why = Unanswered("the walk missed it, though Graph has it by id")
        spared.apart |= {_part_of(name, key): why for key in keys}
    for name in going:
        kept = {part.key for part in spared.apart if _is_object_of(name, part)}
        spared.kept[name] = kept | confirmed.present.get(name, set())
        if _is_weak(name, confirmed):
            spared.weak.add(name)
    spared.groups = {part.key for part in spared.apart if part.kind is PartKind.MEMBERS}
    return spared


def _part_of(name: str, key: str) -> Part:
    if RESOURCES[name].kind is Kind.EDGE:
        return Part(GROUPS.name, PartKind.MEMBERS, pair_of(key)[0])
    return Part(name, PartKind.UNLISTED, key)


def _is_object_of(name: str, part: Part) -> bool:
    return part.resource == name and part.kind in (PartKind.OBJECT, PartKind.UNLISTED)


def _is_weak(name: str, confirmed: Confirmed) -> bool:
    """Whether of a sample fewer than half were answered for: the rest may not go on that."""
    owner = RESOURCES[name].parent or name
    kind = PartKind.MEMBERS if RESOURCES[name].kind is Kind.EDGE else PartKind.OBJECT
    silent = sum(part.resource == owner and part.kind is kind for part in confirmed.apart)
    return name in confirmed.sampled and 2 * silent > confirmed.asked.get(name, 0)
