"""What a sweep leaves alone, once its candidates have been read by id. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from models.resource import DeletedReason, Kind
from models.resources import RESOURCES
from models.resources.groups import GROUPS
from models.unresolved import Part, PartKind, Unanswered
from worker.core.errors import Restart
from worker.store.edges import pair_of
from worker.store.unresolved import ALL

MOST_UNLISTED: Final = 20
"""Objects that exist although several complete lists did not show them; of more, the list lies."""

Reasons = dict[str, str]
"""Keys that are to go, each with its reason."""


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
    """What goes, by resource, and what is set apart instead."""

    going: dict[str, Reasons] = field(default_factory=dict)
    apart: dict[Part, Unanswered] = field(default_factory=dict)

    @property
    def needs_walk(self) -> bool:
        """Whether only another complete list can tell what became of something."""
        return any(part.kind is PartKind.DELETIONS for part in self.apart)

    @property
    def is_unlisted(self) -> bool:
        """Whether something exists that the complete list did not show."""
        return any(part.kind is PartKind.UNLISTED for part in self.apart)


def spare(
    going: Mapping[str, Reasons],
    asked: Mapping[str, list[str]],
    confirmed: Confirmed,
    *,
    last: bool,
    best_effort: bool,
) -> Spared:
    """Of the deletions ``going``, ``asked`` about in part, those that may be applied.

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
    for name, reasons in going.items():
        kept = confirmed.present.get(name, set())
        spared.going[name] = {
            key: why
            for key, why in reasons.items()
            if key not in kept and not _is_apart(name, key, spared.apart)
        }
        if _is_weak(name, confirmed):
            _keep_unasked(name, set(asked.get(name, ())), spared)
    return spared


def _part_of(name: str, key: str) -> Part:
    if RESOURCES[name].kind is Kind.EDGE:
        return Part(GROUPS.name, PartKind.MEMBERS, pair_of(key)[0])
    return Part(name, PartKind.UNLISTED, key)


def _is_apart(name: str, key: str, apart: Mapping[Part, Unanswered]) -> bool:
    if RESOURCES[name].kind is Kind.EDGE:
        return _part_of(name, key) in apart
    kinds = (PartKind.OBJECT, PartKind.UNLISTED)
    return any(Part(name, kind, key) in apart for kind in kinds)


def _is_weak(name: str, confirmed: Confirmed) -> bool:
    """Whether of a sample fewer than half were answered for: the rest may not go on that."""
    owner = RESOURCES[name].parent or name
    kind = PartKind.MEMBERS if RESOURCES[name].kind is Kind.EDGE else PartKind.OBJECT
    silent = sum(part.resource == owner and part.kind is kind for part in confirmed.apart)
    return name in confirmed.sampled and 2 * silent > confirmed.asked.get(name, 0)


def _keep_unasked(name: str, asked: set[str], spared: Spared) -> None:
    reasons = spared.going[name]
    doubted = DeletedReason.NOT_SEEN.value
    kept = [key for key, why in reasons.items() if why == doubted and key not in asked]
    for key in kept:
        del reasons[key]
    if kept:
        why = Unanswered(f"{len(kept)} of them could not be confirmed; the next walk asks again")
        spared.apart[Part(name, PartKind.DELETIONS, ALL)] = why
