"""Judging what a complete walk did not see: what may go, and what has to be read by id first.

Nothing is deleted on weak evidence. A sweep needs a ``Complete``, which only the committed end
of a walk gives. A total that is not believable is held for an operator, and so are the last
memberships of groups whose members may only be hidden from us. The candidates themselves are in
``sync.candidates``; here are only their numbers, and the keys of those to be read by id.
"""

import time
from dataclasses import dataclass, field
from typing import Final

from models.resource import Kind, Resource
from models.stream import Mode, Phase
from worker.core.stopping import is_stopping
from worker.store.candidates import doubtful_at, next_doubtful, withdraw_unanswered
from worker.store.change import Change
from worker.store.deletions import BATCH, count_live_removals, live_count
from worker.store.lease import Transaction
from worker.store.merge import stored_rows
from worker.store.seen import clear_unsent, seen_count
from worker.store.staging import Staging, count_candidates
from worker.store.streams import Stream, save_stream
from worker.store.unresolved import resolve_assignments
from worker.sync.guard import implausible, sample
from worker.sync.session import Session
from worker.sync.transitions import counted

PORTION: Final = 500
"""Objects that are read by id at a time where all of them are."""


@dataclass(frozen=True)
class Complete:
    """Proof that a walk reached its end: without one, nothing is ever swept."""

    walk_id: int
    best_effort: bool

    @classmethod
    def of(cls, stream: Stream) -> "Complete":
        """The proof is the committed phase; a walk that skipped objects gives none."""
        if stream.phase is not Phase.SWEEPING or stream.incomplete:
            raise ValueError("the walk is not complete")
        return cls(stream.walk_id, best_effort=stream.mode is Mode.SEARCH)


@dataclass
class Candidates:
    """What a sweep would delete, what waits for approval, and what must be read by id.

    ``stream`` is the stream as it stands once the rows that were seen have been cleared.
    """

    stream: Stream
    began: float = field(default_factory=time.monotonic)
    going: dict[str, int] = field(default_factory=dict)
    """How many would be deleted, by resource."""
    held: dict[str, str] = field(default_factory=dict)
    """Why those of a resource wait for approval."""
    hidden: bool = False
    """Whether last memberships of hidden groups are to be held."""
    to_confirm: dict[str, list[str]] = field(default_factory=dict)
    doubtful: dict[str, int] = field(default_factory=dict)
    """How many candidates of each resource those to confirm stand for."""
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.going.values())


def prepare_sweep(session: Session, stream: Stream) -> Candidates | None:
    """Clear what no page carried, then find and judge what the walk did not see.

    None where the worker stops meanwhile: the next slice begins with it again.
    """
    found = Candidates(stream)
    if not _clear(session, found):
        return None
    if found.stream.incomplete:
        return found
    complete = Complete.of(found.stream)
    for resource in stream.carries:
        if session.unresolved:
            with session.writing() as tx:
                _leave_unanswered(tx, found.stream, resource)
        staging, done = Staging(resource, complete.walk_id), False
        while not done:
            with session.writing() as tx:
                done = staging.advance(tx)
                if done:
                    _judge(session, tx, found, resource, complete)
            if not done and is_stopping():
                return None
    return found


def _leave_unanswered(tx: Transaction, stream: Stream, resource: Resource) -> None:
    """What was only not seen, and Graph does not answer for, waits by itself."""
    if stream.name == "role_assignments":
        resolve_assignments(tx, stream.parts or [])
    withdraw_unanswered(tx, resource)


def _judge(
    session: Session, tx: Transaction, found: Candidates, resource: Resource, complete: Complete
) -> None:
    """Take the candidates of one resource, or hold them where they are too many to believe."""
    numbers = count_candidates(tx, resource)
    found.hidden = found.hidden or numbers.hidden > 0
    explained = count_live_removals(tx, resource) - numbers.announced_hidden
    going = numbers.unexplained + explained
    empty = numbers.unexplained > 0 and not complete.best_effort
    empty = empty and seen_count(tx, resource, complete.walk_id) == 0
    live = live_count(tx, resource) if going else 0
    why = implausible(session.policy, going=going, live=live, empty=empty)
    if why is not None:
        found.held[resource.name] = why
    elif numbers.going:
        found.going[resource.name] = numbers.going
        if complete.best_effort:
            choose_portion(tx, found, resource)
        elif numbers.doubtful:
            places = list(sample(range(numbers.doubtful)))
            _choose(tx, found, resource, doubtful_at(tx, resource, places), numbers.doubtful)


def choose_portion(tx: Transaction, found: Candidates, resource: Resource) -> bool:
    """Choose the next to be read by id where all of them are; whether there are any."""
    keys = next_doubtful(tx, resource, PORTION)
    if not keys:
        found.to_confirm.pop(resource.name, None)
        return False
    _choose(tx, found, resource, keys, len(keys))
    return True


def _choose(
    tx: Transaction, found: Candidates, resource: Resource, keys: list[str], doubtful: int
) -> None:
    """Sites are read by Graph's composite id, not by our key."""
    found.to_confirm[resource.name] = keys
    found.doubtful[resource.name] = doubtful
    if resource.kind is Kind.EDGE or resource.address in resource.key:
        return
    position = resource.column_names.index(resource.address)
    found.addresses = {
        key: stored.row[position] or key for key, stored in stored_rows(tx, resource, keys).items()
    }


def _clear(session: Session, found: Candidates) -> bool:
    """Null what no page carried; whether all is done, as the slice may be to end before."""
    more = True
    while more:
        with session.writing() as tx:
            resource, walk = found.stream.resource, found.stream.walk_id
            changes = clear_unsent(tx, resource, walk, BATCH)
            after = record(session, tx, found.stream, resource, changes)
        found.stream = after
        more = len(changes) == BATCH
        if more and session.gives_way():
            return False
    return True


def record(
    session: Session, tx: Transaction, stream: Stream, of: Resource, changes: list[Change]
) -> Stream:
    """Tell of changes, and count them where the walk compares."""
    session.record(tx, of, changes, initial=stream.initial)
    after = counted(stream, of, changes)
    if after != stream:
        save_stream(tx, stream, after)
    return after


def has_had_its_time(session: Session, found: Candidates, since: float) -> bool:
    """Whether a sweep that deletes since then is to leave the rest to the next slice.

    That begins with the judging: so that the deleting never falls far behind it, it goes on for as
    long as judging took, unless the worker stops.
    """
    if is_stopping():
        return True
    return session.gives_way() and time.monotonic() - since >= since - found.began
