"""The held deletions of a connection: what was shown is what a decision carries."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from models.operation import Action
from worker.core.errors import InvalidInput
from worker.operations.request import DecisionParameters
from worker.operations.review import HeldResource, HeldReview, list_held, review_held
from worker.page.connection import describe_identity, find_connection
from worker.page.connection_actions import act
from worker.page.page import PageQuery, Redirect, View, Visit
from worker.store.state.metrics import set_statement_timeout
from worker.store.sweep.held import HeldObject
from worker.sync.finish.approve import SeenSet

ROWS: Final = 100
_MAX_KEY: Final = 200
_HOLD: Final = "waits for approval: "
_NO_CONSENT: Final = "confirm that you have looked at what is shown"

SeenText = Annotated[str, Meta(max_length=200, pattern=r"^[a-z_]+:[0-9]{1,18}:[0-9a-f]{1,64}$")]


class HeldPageQuery(PageQuery, frozen=True, kw_only=True):
    """Which of the held objects are listed."""

    resource: Annotated[str, Meta(max_length=60)] = ""
    after: Annotated[str, Meta(max_length=_MAX_KEY)] = ""


class DecisionForm(msgspec.Struct, frozen=True):
    """What was shown, and that it was looked at."""

    seen: Annotated[list[SeenText], Meta(max_length=20)] = []
    agreed: bool = False


class HeldRow(msgspec.Struct, frozen=True):
    """What is held of one resource."""

    resource: str
    count: int
    seen: str
    """What the form carries."""
    live_rows: int
    percent: float
    rule: str | None
    since: datetime | None
    full_walk_at: datetime | None
    is_walked_since: bool | None


class HeldObjectRow(msgspec.Struct, frozen=True):
    """A held deletion."""

    key: str
    name: str | None
    reason: str
    noted_at: datetime


def show_held(visit: Visit, problem: str = "", status: int = 200) -> View:
    """Return the page of the held deletions. Raises NotFound."""
    _, one = find_connection(visit)
    query: HeldPageQuery = visit.query
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        review = review_held(db, one.id)
        resource = _choose_resource(review, query)
        objects: Sequence[HeldObject] = []
        if resource is not None:
            objects = list_held(db, one.id, resource, after=query.after, limit=ROWS + 1)
    shown = [HeldObjectRow(it.key, it.name, it.reason, it.noted_at) for it in objects[:ROWS]]
    values = {
        "connection": describe_identity(one),
        "problem": problem,
        "held": [_build_row(it) for it in review.resources],
        "cascade": dict(review.cascade),
        "deletes": sum(review.counts.values()),
        "digest": review.digest,
        "resource": resource,
        "objects": shown,
        "after": query.after,
        "next_key": shown[-1].key if len(objects) > ROWS else None,
    }
    title = f"Held deletions of {one.facts.title}"
    return View("held.html", title, values, status, is_live=False)


def approve_held(visit: Visit) -> View | Redirect:
    return _decide(visit, Action.APPROVE)


def reject_held(visit: Visit) -> View | Redirect:
    return _decide(visit, Action.REJECT)


def _decide(visit: Visit, action: Action) -> View | Redirect:
    return act(visit, action, lambda: _read_decision(visit.form), show_held)


def _read_decision(form: DecisionForm) -> DecisionParameters:
    """Return what was shown. Raises InvalidInput."""
    if not form.agreed:
        raise InvalidInput(_NO_CONSENT)
    seen = {}
    for text in form.seen:
        resource, count, digest = text.split(":")
        seen[resource] = SeenSet(int(count), digest)
    if not seen:
        raise InvalidInput("the form does not say what was shown; open the page again")
    return DecisionParameters(seen)


def _choose_resource(review: HeldReview, query: HeldPageQuery) -> str | None:
    """Return the resource whose objects are listed: that asked for, else the first."""
    held = [one.held.resource for one in review.resources]
    if query.resource in held:
        return query.resource
    return held[0] if held else None


def _build_row(one: HeldResource) -> HeldRow:
    held = one.held
    return HeldRow(
        resource=held.resource,
        count=held.count,
        seen=f"{held.resource}:{held.count}:{held.digest}",
        live_rows=one.live_rows,
        percent=one.percent,
        rule=None if one.rule is None else one.rule.removeprefix(_HOLD),
        since=held.since,
        full_walk_at=one.full_walk_at,
        is_walked_since=one.is_walked_since,
    )
