"""Sweeping: deleting what a complete walk did not see.

Nothing is deleted on weak evidence. A sweep needs a ``Complete``, which only the committed end
of a walk gives; its candidates are read by id first, and one that is still there makes the walk
torn. A total that is not believable is held for an operator, and so are the last memberships
of groups whose members may only be hidden from us.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from models.resource import DeletedReason, Kind, Resource
from models.resources import RESOURCES
from models.resources.group_members import GROUP_MEMBERS
from models.stream import Mode, Phase
from models.unresolved import Part, PartKind
from worker.core.crash import crash_point
from worker.store.cascade import Deletion
from worker.store.change import Change
from worker.store.deletions import (
    BATCH,
    count_live_removals,
    drop_removals,
    hold_removals,
    live_count,
    note_removals,
    some_removals,
    withdraw_removals,
)
from worker.store.hidden import emptied_hidden, held_hidden, hold_these
from worker.store.lease import Transaction
from worker.store.merge import stored_rows
from worker.store.runs import note_walk
from worker.store.seen import clear_unsent, forget_seen, seen_count, unseen
from worker.store.streams import Stream, save_stream
from worker.store.unresolved import ALL, left_alone, resolve, resolve_assignments
from worker.sync.guard import hidden_away, implausible, sample
from worker.sync.plan import MAX_RESTARTS, next_due
from worker.sync.session import Session
from worker.sync.spared import Confirmed, Reasons, Spared, spare
from worker.sync.transitions import counted, resynced


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
    going: dict[str, Reasons] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, Reasons] = field(default_factory=dict)
    hidden: Reasons = field(default_factory=dict)
    to_confirm: dict[str, list[str]] = field(default_factory=dict)
    doubtful: dict[str, int] = field(default_factory=dict)
    """How many candidates of each resource those to confirm were chosen from."""
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(len(reasons) for reasons in self.going.values())

    def parents(self, resource: Resource) -> set[str]:
        """The groups that go or wait for approval, for their memberships; none for others."""
        parent = resource.parent or ""
        return {*self.going.get(parent, ()), *self.waiting.get(parent, ())}


def prepare_sweep(session: Session, stream: Stream) -> Candidates:
    """Clear what no page carried, then find what the walk did not see."""
    stream = _clear(session, stream)
    found = Candidates(stream)
    if stream.incomplete:
        return found
    complete = Complete.of(stream)
    with session.writing() as tx:
        if session.unresolved and stream.name == "role_assignments":
            resolve_assignments(tx, stream.parts or [])
        for resource in stream.carries:
            if session.unresolved:
                _withdraw_unresolved(tx, resource)
            parents = found.parents(resource)
            missing = unseen(tx, resource, complete.walk_id, parents)
            if resource.kind is Kind.EDGE:
                missing = _take_edges(tx, found, missing, parents, complete)
            _judge(session, tx, found, resource, missing, complete=complete)
        _look_up_addresses(tx, found)
    return found


def _withdraw_unresolved(tx: Transaction, resource: Resource) -> None:
    """Drop what was only not seen, where Graph does not answer for it: that waits by itself."""
    announced = some_removals(tx, resource, limit=1_000_000)
    doubted = [key for key, why in announced.items() if why == DeletedReason.NOT_SEEN]
    withdraw_removals(tx, resource, list(left_alone(tx, resource, doubted)))


def _judge(
    session: Session,
    tx: Transaction,
    found: Candidates,
    resource: Resource,
    missing: Reasons,
    *,
    complete: Complete,
) -> None:
    """Take the candidates of one resource, or hold them where they are too many to believe."""
    announced = some_removals(tx, resource, limit=1_000_000)
    explained = count_live_removals(tx, resource) - len(found.hidden.keys() & announced.keys())
    announced = {key: why for key, why in announced.items() if key not in found.hidden}
    unexplained = [key for key in missing if key not in announced]
    empty = seen_count(tx, resource, complete.walk_id) == 0 and not complete.best_effort
    going = len(unexplained) + explained
    live = live_count(tx, resource) if going else 0
    empty = empty and bool(unexplained)
    why = implausible(session.policy, going=going, live=live, empty=empty)
    if why is not None:
        note_removals(tx, resource, missing)
        hold_removals(tx, resource)
        found.held[resource.name] = why
        found.waiting[resource.name] = {**missing, **announced}
        return
    found.going[resource.name] = {**missing, **announced}
    doubted = DeletedReason.NOT_SEEN
    doubtful = unexplained + [key for key, why in announced.items() if why == doubted]
    if doubtful:
        chosen = doubtful if complete.best_effort else sample(doubtful)
        found.to_confirm[resource.name] = chosen
        found.doubtful[resource.name] = len(doubtful)


def _take_edges(
    tx: Transaction,
    found: Candidates,
    missing: Reasons,
    parents: set[str],
    complete: Complete,
) -> Reasons:
    """Memberships that are to be judged; those of ``parents`` go with their groups.

    Not those of hidden groups while the walk saw no hidden membership: reading by id would not
    show them either.
    """
    hidden = emptied_hidden(tx, missing, parents, complete.walk_id)
    found.hidden = dict.fromkeys(hidden, DeletedReason.NOT_SEEN.value)
    return {key: why for key, why in missing.items() if key not in found.hidden}


def _look_up_addresses(tx: Transaction, found: Candidates) -> None:
    """Sites are read by Graph's composite id, not by our key."""
    for name, keys in found.to_confirm.items():
        resource = RESOURCES[name]
        if resource.kind is Kind.EDGE or resource.address in resource.key:
            continue
        position = resource.column_names.index(resource.address)
        for key, stored in stored_rows(tx, resource, keys).items():
            found.addresses[key] = stored.row[position] or key


def _clear(session: Session, stream: Stream) -> Stream:
    while True:
        with session.writing() as tx:
            changes = clear_unsent(tx, stream.resource, stream.walk_id, BATCH)
            stream = _record(session, tx, stream, stream.resource, changes)
        if len(changes) < BATCH:
            return stream


def _record(
    session: Session, tx: Transaction, stream: Stream, of: Resource, changes: list[Change]
) -> Stream:
    """Tell of changes, and count them where the walk compares."""
    session.record(tx, of, changes, initial=stream.initial)
    after = counted(stream, of, changes)
    if after != stream:
        save_stream(tx, stream, after)
    return after


def apply_sweep(
    session: Session, stream: Stream, found: Candidates, confirmed: Confirmed
) -> Stream:
    """Delete the candidates in fenced batches and end the walk; the stream as it then stands.

    Those of which Graph does not say are set apart. Raises Restart where a read by id found what
    the walk missed: it was torn, and nothing has been deleted.
    """
    spared = spare(
        found.going,
        found.to_confirm,
        confirmed,
        last=stream.restarts >= MAX_RESTARTS,
        best_effort=stream.mode is Mode.SEARCH,
    )
    if spared.apart:
        with session.writing() as tx:
            session.note_unresolved(tx, spared.apart)
    for name, going in spared.going.items():
        stream = _delete(session, stream, RESOURCES[name], going)
    with session.writing() as tx:
        for resource in stream.carries:
            if resource.name not in found.held:
                drop_removals(tx, resource)
            more = Part(resource.name, PartKind.DELETIONS, ALL)
            if session.unresolved and more not in spared.apart:
                resolve(tx, [more])
        if found.hidden:
            _hold_hidden(tx, found)
        forget_seen(tx, stream.carries)
        after = _ended(session, stream, found, spared)
        save_stream(tx, stream, after)
        if resynced(stream, after):
            note_walk(tx, session.run, [of.name for of in stream.carries])
    session.tally.walked.append(stream.name)
    return after


def _hold_hidden(tx: Transaction, found: Candidates) -> None:
    name = GROUP_MEMBERS.name
    note_removals(tx, GROUP_MEMBERS, found.hidden)
    hold_these(tx, GROUP_MEMBERS, found.hidden)
    whys = [found.held.get(name), hidden_away(*held_hidden(tx))]
    found.held[name] = "; ".join(filter(None, whys))


def _delete(session: Session, stream: Stream, resource: Resource, reasons: Reasons) -> Stream:
    keys = list(reasons)
    for start in range(0, len(keys), BATCH):
        some = {key: reasons[key] for key in keys[start : start + BATCH]}
        deletion, done = Deletion(resource), False
        while not done:
            with session.writing() as tx:
                deleted, done = deletion.advance(tx, some)
                for of, changes in deleted:
                    stream = _record(session, tx, stream, of, changes)
                if done:
                    withdraw_removals(tx, resource, list(some))
            crash_point("sweep-batch")
    return stream


def _ended(session: Session, stream: Stream, found: Candidates, spared: Spared) -> Stream:
    """The state after a walk: on to deltas, or to the next snapshot."""
    policy, now = session.policy, session.began
    resting = Phase.DELTA if stream.follows_delta else Phase.READY
    after = replace(stream, page_no=0, walk_id=stream.walk_id + 1, next_link=None, parts=None)
    after = replace(after, seen_count=0, loop_mark=None, body_digest=None, body_repeats=0)
    if stream.incomplete:
        reason = "Graph sent an object without a readable id, so nothing was swept"
        again = now + timedelta(seconds=3600)
        return replace(
            after, phase=resting, incomplete=False, due_at=again, full_due_at=again, reason=reason
        )
    first_time = stream.initial
    soon = first_time or spared.is_unlisted or spared.needs_walk
    gap = policy.first_full_walk_seconds if soon else policy.full_walk_seconds
    interval = policy.interval(stream)
    due = next_due(stream.due_at, now, interval, session.jitter)
    if stream.follows_delta and not stream.resource.children:
        due = now
    held = "; ".join(f"{name}: {why}" for name, why in found.held.items())
    return replace(
        after,
        phase=Phase.HELD if held else resting,
        restarts=0,
        first_complete_at=stream.first_complete_at or now,
        full_walk_at=stream.walk_started_at,
        fresh_at=stream.walk_started_at,
        due_at=due,
        full_due_at=now + timedelta(seconds=gap * (0.9 + 0.2 * session.jitter)),
        reason=f"waits for approval: {held}" if held else _best_effort(stream),
    )


def _best_effort(stream: Stream) -> str | None:
    if stream.mode is Mode.SEARCH:
        return "best effort: the complete list of sites is refused, so search is all there is"
    return None
