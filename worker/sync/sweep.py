"""Sweeping: deleting what a complete walk did not see, once it is judged and read by id.

In fenced batches, each with its events; what is to wait for an operator is noted in batches, too.
An interrupted sweep is judged again by the next slice, and goes on with what is still live.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from models.resource import Resource
from models.resources import RESOURCES
from models.resources.group_members import GROUP_MEMBERS
from models.stream import Mode, Phase
from models.unresolved import Part, PartKind
from worker.core.crash import crash_point
from worker.store.candidates import (
    drop_candidates,
    drop_judged_removals,
    hold_hidden,
    hold_unseen,
    leave_groups,
    leave_unasked,
    note_found,
    some_candidates,
)
from worker.store.cascade import Deletion
from worker.store.deletions import BATCH, drop_removals, hold_removals, withdraw_removals
from worker.store.hidden import held_hidden
from worker.store.lease import Transaction
from worker.store.runs import note_walk
from worker.store.seen import forget_seen
from worker.store.staging import ALL_WALKS, STAGED, clear_candidates
from worker.store.streams import Stream, save_stream
from worker.store.unresolved import ALL, resolve
from worker.sync.guard import hidden_away
from worker.sync.judging import Candidates, choose_portion, has_had_its_time, record
from worker.sync.plan import MAX_RESTARTS, next_due
from worker.sync.session import Session
from worker.sync.spared import Confirmed, Spared, spare
from worker.sync.transitions import resynced


def apply_sweep(session: Session, found: Candidates, confirmed: Confirmed) -> bool:
    """Delete candidates in fenced batches, and end the walk; whether it has ended.

    Those of which Graph does not say are set apart. Where the walk has not ended, either there is
    more to be read by id (``found.to_confirm``), or the stream is in ``session.cut_short``: the
    next slice judges again what is left. Raises Restart where a read by id found what the walk
    missed: it was torn, and nothing has been deleted.
    """
    stream, since = found.stream, time.monotonic()
    every = stream.mode is Mode.SEARCH
    last = stream.restarts >= MAX_RESTARTS
    spared = spare(found.going, confirmed, last=last, best_effort=every)
    _leave(session, found, spared)
    for name in found.going:
        resource, upto = RESOURCES[name], None
        if every and found.to_confirm.get(name):
            upto = found.to_confirm[name][-1]
        if not _delete(session, found, resource, upto, since):
            session.cut_short.add(stream.name)
            return False
        if upto is not None:
            with session.writing() as tx:
                choose_portion(tx, found, resource)
            return False
    for name in found.held:
        _hold(session, RESOURCES[name], hold_unseen)
    if found.hidden:
        _hold(session, GROUP_MEMBERS, hold_hidden)
    _end(session, found, spared)
    return True


def _leave(session: Session, found: Candidates, spared: Spared) -> None:
    """Take what stays out of the candidates, and note of what Graph does not say."""
    if not spared.anything:
        return
    with session.writing() as tx:
        for name in found.going:
            resource = RESOURCES[name]
            apart = {part.key for part in spared.apart if part.resource == name}
            drop_candidates(tx, resource, spared.kept[name] & apart)
            note_found(tx, resource, spared.kept[name] - apart)
            if resource is GROUP_MEMBERS:
                leave_groups(tx, resource, spared.groups)
            if name in spared.weak:
                asked = found.to_confirm.get(name, [])
                spared.keep_unasked(name, leave_unasked(tx, resource, asked))
        session.note_unresolved(tx, spared.apart)


def _delete(
    session: Session, found: Candidates, resource: Resource, upto: str | None, since: float
) -> bool:
    """Delete the candidates up to a key, or all; whether they are, as the slice may be to end."""
    deletion, more, after = Deletion(resource), True, ""
    while more:
        with session.writing() as tx:
            some = some_candidates(tx, resource, after=after, upto=upto, limit=BATCH)
            deleted, done = deletion.advance(tx, some)
            stream = found.stream
            for of, changes in deleted:
                stream = record(session, tx, stream, of, changes)
            if done:
                withdraw_removals(tx, resource, list(some))
                drop_candidates(tx, resource, some)
        found.stream = stream
        crash_point("sweep-batch")
        more = not done or len(some) == BATCH
        after = list(some)[-1] if done and some else after
        if more and has_had_its_time(session, found, since):
            return False
    return True


def _hold(
    session: Session,
    resource: Resource,
    hold: Callable[[Transaction, Resource, str, int], str | None],
) -> None:
    """Have candidates wait for an operator, some in each transaction."""
    after: str | None = ""
    while after is not None:
        with session.writing() as tx:
            after = hold(tx, resource, after, STAGED)


def _end(session: Session, found: Candidates, spared: Spared) -> None:
    stream = found.stream
    with session.writing() as tx:
        for resource in stream.carries:
            _end_removals(tx, found, resource)
            more = Part(resource.name, PartKind.DELETIONS, ALL)
            if session.unresolved and more not in spared.apart:
                resolve(tx, [more])
        if found.hidden:
            name = GROUP_MEMBERS.name
            whys = [found.held.get(name), hidden_away(*held_hidden(tx))]
            found.held[name] = "; ".join(filter(None, whys))
        forget_seen(tx, stream.carries)
        after = _ended(session, stream, found, spared)
        save_stream(tx, stream, after)
        if resynced(stream, after):
            note_walk(tx, session.run, [of.name for of in stream.carries])
        left = [of for of in stream.carries if not _cleared(tx, of)]
    session.tally.walked.append(stream.name)
    found.stream = after
    for resource in left:
        _clear_all(session, resource)


def _end_removals(tx: Transaction, found: Candidates, resource: Resource) -> None:
    """Of what waited for the end of the walk, only what is held goes on to wait."""
    if resource.name in found.held:
        hold_removals(tx, resource)
    elif found.hidden and resource is GROUP_MEMBERS:
        drop_judged_removals(tx, resource)
    else:
        drop_removals(tx, resource)


def _cleared(tx: Transaction, resource: Resource) -> bool:
    return clear_candidates(tx, resource, ALL_WALKS, STAGED) < STAGED


def _clear_all(session: Session, resource: Resource) -> None:
    done = False
    while not done:
        with session.writing() as tx:
            done = _cleared(tx, resource)


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
