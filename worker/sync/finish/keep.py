"""Decide which candidates a sweep keeps after they have been read by id. Pure functions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from models.resources import RESOURCES
from models.unresolved import NoAnswer, Part, PartKind
from worker.core.errors import CursorExpired
from worker.store.mirror.edges import parse_edge_key
from worker.store.state.unresolved import WHOLE_RESOURCE

MAX_UNLISTED: Final = 20
"""Most objects that may exist although several complete walks missed them."""


@dataclass
class Confirmation:
    """The results of reading a sweep's candidates by id.

    ``existing`` holds those that exist, by resource; ``unanswered`` the parts that Graph gave no
    answer for; ``sampled_resources`` those of which only a sample was read; ``asked_counts`` how
    many were.
    """

    existing: dict[str, set[str]] = field(default_factory=dict)
    unanswered: dict[Part, NoAnswer] = field(default_factory=dict)
    asked_counts: dict[str, int] = field(default_factory=dict)
    sampled_resources: set[str] = field(default_factory=set)


@dataclass
class KeptCandidates:
    """The candidates that stay, and the unanswered parts."""

    kept_keys: dict[str, set[str]] = field(default_factory=dict)
    """Candidates that stay, by resource."""
    kept_parents: dict[str, set[str]] = field(default_factory=dict)
    """Parents whose edges stay, by resource."""
    weak_resources: set[str] = field(default_factory=set)
    """Resources with too few answers in the sample: only sampled rows may be deleted."""
    unanswered: dict[Part, NoAnswer] = field(default_factory=dict)

    @property
    def has_any(self) -> bool:
        return bool(self.weak_resources or self.unanswered) or any(self.kept_keys.values())

    @property
    def needs_walk(self) -> bool:
        """Whether only another complete walk can confirm some deletions."""
        return any(part.kind is PartKind.DELETIONS for part in self.unanswered)

    @property
    def has_unlisted(self) -> bool:
        """Whether an object exists that the complete walk missed."""
        return any(part.kind is PartKind.UNLISTED for part in self.unanswered)

    def add_unasked(self, name: str, number: int) -> None:
        """Record that candidates of a weak resource stay, as they were not read by id."""
        if number:
            why = f"{number} of them could not be confirmed; the next walk retries them"
            self.unanswered[Part(name, PartKind.DELETIONS, WHOLE_RESOURCE)] = NoAnswer(why)


def decide_kept(
    resources: Iterable[str],
    confirmed: Confirmation,
    *,
    is_last_attempt: bool,
    is_best_effort: bool,
) -> KeptCandidates:
    """Return which deletions of ``resources`` are dropped after some were read by id.

    Raises CursorExpired if the walk missed objects that exist. At the ``is_last_attempt`` of
    several walks that missed the same few objects, these are recorded as unlisted instead: the list
    does not show them.
    """
    missed = {} if is_best_effort else {n: keys for n, keys in confirmed.existing.items() if keys}
    number = sum(len(keys) for keys in missed.values())
    single = (
        is_last_attempt
        and number <= MAX_UNLISTED
        and confirmed.sampled_resources.isdisjoint(missed)
    )
    if number and not single:
        raise CursorExpired(f"the walk missed {number} existing objects; it restarts")
    spared = KeptCandidates(unanswered=dict(confirmed.unanswered))
    for name, keys in missed.items():
        why = NoAnswer("the walk missed it, but Graph returns it by id")
        spared.unanswered |= {_build_part(name, key): why for key in keys}
    for name in resources:
        kept = {part.key for part in spared.unanswered if _is_object_of(name, part)}
        spared.kept_keys[name] = kept | confirmed.existing.get(name, set())
        if _is_weakly_confirmed(name, confirmed):
            spared.weak_resources.add(name)
    for part in spared.unanswered:
        if part.kind is PartKind.MEMBERS:
            spared.kept_parents.setdefault(part.resource, set()).add(part.key)
    return spared


def _build_part(name: str, key: str) -> Part:
    if RESOURCES[name].is_edge:
        return Part(name, PartKind.MEMBERS, parse_edge_key(key)[0])
    return Part(name, PartKind.UNLISTED, key)


def _is_object_of(name: str, part: Part) -> bool:
    return part.resource == name and part.kind in (PartKind.OBJECT, PartKind.UNLISTED)


def _is_weakly_confirmed(name: str, confirmed: Confirmation) -> bool:
    """Whether fewer than half of a sample were answered: too few to delete the rest."""
    kind = PartKind.MEMBERS if RESOURCES[name].is_edge else PartKind.OBJECT
    silent = sum(part.resource == name and part.kind is kind for part in confirmed.unanswered)
    return name in confirmed.sampled_resources and 2 * silent > confirmed.asked_counts.get(name, 0)
