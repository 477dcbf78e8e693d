"""Actions on many connections: what one would do and cost, and the form that submits it."""

import hashlib
import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from models.connection import ConnectionStatus
from models.operation import Action
from worker.conditions.condition import Code
from worker.operations.pause import MAX_REASON
from worker.operations.price import Price, price
from worker.operations.request import OperationRequest, parse_parameters
from worker.operations.selection import TargetSelection, select_targets
from worker.operations.submit import submit_or_record
from worker.overview.listing import ConnectionFilter
from worker.page.connection_actions import USUAL_HOURS, require_reason
from worker.page.page import PageQuery, Redirect, View, Visit
from worker.store.state.metrics import set_statement_timeout
from worker.store.state.operations import IdempotencyKey
from worker.web.problem import name_mistakes
from worker.web.queries import MAX_ROWS, SearchText

_NAMES: Final = 12
"""Connections that a preview names."""
_KEY_BYTES: Final = 12

Ids = Annotated[tuple[Annotated[int, Meta(ge=1, le=2**63 - 1)], ...], Meta(max_length=MAX_ROWS)]


class BulkAction(StrEnum):
    """What can be asked for of many connections at once."""

    RESYNC = "resync"
    RESYNC_FULL = "resync_full"
    """Everything is read again."""
    PAUSE = "pause"
    RESUME = "resume"


class BulkScope(StrEnum):
    """Which connections of a list are meant."""

    SELECTED = "selected"
    MATCHING = "matching"


_TITLES: Final = {
    BulkAction.RESYNC: "Resync",
    BulkAction.RESYNC_FULL: "Resync in full",
    BulkAction.PAUSE: "Pause",
    BulkAction.RESUME: "Resume",
}


class BulkQuery(PageQuery, frozen=True, kw_only=True):
    """An action, and the connections that it is for: ids, or those that match a filter."""

    action: BulkAction
    scope: BulkScope = BulkScope.SELECTED
    id: Ids = ()
    condition: Annotated[tuple[Code, ...], Meta(max_length=25)] = ()
    status: Annotated[tuple[ConnectionStatus, ...], Meta(max_length=5)] = ()
    text: SearchText = ""
    attention: bool = False


class BulkForm(BulkQuery, frozen=True, kw_only=True):
    """The same, with the number that was confirmed."""

    expected_count: Annotated[int, Meta(ge=1, le=100_000)]
    key: Annotated[str, Meta(min_length=1, max_length=50)]
    """Of the page that was confirmed: one that is sent twice acts once."""
    reason: Annotated[str, Meta(max_length=MAX_REASON)] | None = None
    hours: Annotated[int, Meta(ge=1, le=24 * 90)] | None = None
    """How long a pause lasts."""


def preview_bulk(visit: Visit) -> View:
    """Show how many connections an action is for, and what it costs."""
    query: BulkQuery = visit.query
    action, wanted = _get_action(query), _build_wanted(query)
    visit.context.fleet.invalidate()
    fleet = visit.load_fleet()
    chosen = select_targets(fleet, action, wanted)
    values = {
        "query": query,
        "title": _TITLES[query.action],
        "fields": _list_fields(query),
        "count": len(chosen.ids),
        "left_out": dict(chosen.left_out),
        "names": [(one, fleet.by_id[one].facts.title) for one in chosen.ids[:_NAMES]],
        "price": _estimate(visit, query, chosen),
        "key": secrets.token_urlsafe(_KEY_BYTES),
        "most_reason": MAX_REASON,
        "usual_hours": USUAL_HOURS,
    }
    return View("bulk.html", f"{_TITLES[query.action]}: preview", values, is_live=False)


def submit_bulk(visit: Visit) -> Redirect:
    """Submit what a preview showed. Raises ExpectationChanged if other connections match now."""
    form: BulkForm = visit.form
    action = _get_action(form)
    visit.context.fleet.invalidate()
    fleet = visit.load_fleet()
    chosen = select_targets(fleet, action, _build_wanted(form))
    request = OperationRequest(
        action,
        chosen.ids,
        parse_parameters(action, _build_parameters(form, fleet.now)),
        expected_count=form.expected_count,
        chosen_by=_describe_choice(form),
    )
    digest = hashlib.sha256(msgspec.json.encode(form, order="sorted")).hexdigest()
    submitted = submit_or_record(
        visit.context.database,
        visit.actor,
        request,
        key=IdempotencyKey(f"page-{form.key}", digest),
        hold_seconds=0.0,
    )
    visit.context.forget()
    return Redirect(f"/operations/{submitted.operation.id}")


def _get_action(query: BulkQuery) -> Action:
    is_full = query.action is BulkAction.RESYNC_FULL
    return Action.RESYNC if is_full else Action(query.action.value)


def _build_wanted(query: BulkQuery) -> ConnectionFilter:
    if query.scope is BulkScope.SELECTED:
        return ConnectionFilter(ids=frozenset(query.id))
    return ConnectionFilter(
        conditions=frozenset(query.condition),
        statuses=frozenset(query.status),
        text=query.text,
        attention=query.attention,
    )


def _describe_choice(query: BulkQuery) -> dict[str, Any]:
    """Return the filter for the record, as the API stores it."""
    if query.scope is BulkScope.SELECTED:
        return {"ids": list(query.id)}
    return {
        "conditions": list(query.condition),
        "statuses": list(query.status),
        "text": query.text,
        "attention": query.attention,
    }


def _list_fields(query: BulkQuery) -> list[tuple[str, str]]:
    """Return what the form repeats of the query."""
    fields = [("action", query.action.value), ("scope", query.scope.value)]
    if query.scope is BulkScope.SELECTED:
        return [*fields, *(("id", str(one)) for one in query.id)]
    fields += [("condition", one.value) for one in query.condition]
    fields += [("status", one.value) for one in query.status]
    fields += [("text", query.text)] if query.text else []
    return [*fields, *([("attention", "true")] if query.attention else [])]


def _build_parameters(form: BulkForm, now: datetime) -> dict[str, Any]:
    if form.action is BulkAction.RESYNC_FULL:
        return {"full": True}
    if form.action is not BulkAction.PAUSE:
        return {}
    with name_mistakes("reason"):
        require_reason(form.reason)
    until = None if form.hours is None else now + timedelta(hours=form.hours)
    return {"reason": form.reason, "until": until}


def _estimate(visit: Visit, query: BulkQuery, chosen: TargetSelection) -> Price | None:
    """Return what it costs in calls to Nango; None if it costs none."""
    if _get_action(query) is not Action.RESYNC or not chosen.ids:
        return None
    budget = visit.load_fleet().service.shared.budget
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        return price(
            db,
            chosen.ids,
            full=query.action is BulkAction.RESYNC_FULL,
            calls_per_minute=budget.limit if budget else None,
        )
