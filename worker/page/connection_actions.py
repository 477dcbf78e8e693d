"""Resync, pause and resume one connection: a page that says what will happen, and its form."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from models.connection import ConnectionStatus
from models.operation import Action
from models.resources import RESOURCES
from worker.core.errors import InvalidInput, StateConflict
from worker.operations.pause import MAX_REASON
from worker.operations.price import Price, price
from worker.operations.request import (
    OperationRequest,
    Parameters,
    PauseParameters,
    ResumeParameters,
    parse_parameters,
)
from worker.operations.submit import submit_or_record
from worker.overview.fleet import FleetConnection
from worker.page.connection import build_pause, describe_identity, find_connection
from worker.page.page import PageQuery, Redirect, View, Visit
from worker.store.state.metrics import set_statement_timeout

_MAX_HOURS: Final = 24 * 366
USUAL_HOURS: Final = 4
"""How long a pause lasts unless something else is chosen."""
_LONGEST_MOMENT: Final = 40


class ResyncQuery(PageQuery, frozen=True, kw_only=True):
    """The resource that is chosen to begin with."""

    resource: Annotated[str, Meta(max_length=60)] = ""


class ResyncForm(msgspec.Struct, frozen=True):
    """Which resources to read, and how."""

    resource: Annotated[list[Annotated[str, Meta(max_length=60)]], Meta(max_length=20)] = []
    full: bool = False


class PauseForm(msgspec.Struct, frozen=True):
    """Why, and until when: in so many hours, or at a time in UTC."""

    reason: Annotated[str, Meta(max_length=MAX_REASON)] | None = None
    hours: Annotated[int, Meta(ge=1, le=_MAX_HOURS)] | None = None
    until: Annotated[str, Meta(max_length=_LONGEST_MOMENT)] | None = None


class ResumeForm(msgspec.Struct, frozen=True):
    """Nothing but the wish."""


Show = Callable[..., View]


def show_resync(visit: Visit, problem: str = "", status: int = 200) -> View:
    """Return the page that says what a resync costs. Raises NotFound."""
    fleet, one = find_connection(visit)
    budget = fleet.service.shared.budget
    prices = {}
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        for is_full in (False, True):
            prices[is_full] = price(
                db, [one.id], full=is_full, calls_per_minute=budget.limit if budget else None
            )
    values = {
        "connection": describe_identity(one),
        "problem": problem,
        "usual": _describe_price(prices[False]),
        "full": _describe_price(prices[True]),
        "is_same": prices[False] == prices[True],
        "resources": list(RESOURCES),
        "chosen": _list_chosen(visit),
        "is_full": isinstance(visit.form, ResyncForm) and visit.form.full,
        "warning": _warn(one),
        "activity": one.activity,
        "pause": build_pause(one, fleet.now),
    }
    return View("resync.html", f"Resync {one.facts.title}", values, status, is_live=False)


def _list_chosen(visit: Visit) -> list[str]:
    """Return the resources that are chosen to begin with: those sent, else the one asked for."""
    if isinstance(visit.form, ResyncForm):
        return visit.form.resource
    return [visit.query.resource] if visit.query.resource else []


def _warn(one: FleetConnection) -> str | None:
    """Return why a resync will not help; None if nothing speaks against it."""
    facts = one.facts
    reason = f": {facts.status_reason}" if facts.status_reason else ""
    if facts.status == ConnectionStatus.BROKEN:
        return (
            f"it is broken{reason}; a resync tries it at once, but fails again until the cause "
            "is corrected"
        )
    if facts.status == ConnectionStatus.PAUSED:
        return (
            "it is switched off in Nango, so a resync will be refused; set 'enabled' to true in "
            "its metadata there"
        )
    if not facts.is_synced:
        return f"it is {facts.status}{reason}; it is not synced, so a resync will be refused"
    return None


def resync_connection(visit: Visit) -> View | Redirect:
    form: ResyncForm = visit.form
    given = {"resources": form.resource, "full": form.full}
    return act(visit, Action.RESYNC, lambda: parse_parameters(Action.RESYNC, given), show_resync)


def show_pause(visit: Visit, problem: str = "", status: int = 200) -> View:
    """Return the form of a pause. Raises NotFound."""
    fleet, one = find_connection(visit)
    values = {
        "connection": describe_identity(one),
        "problem": problem,
        "activity": one.activity,
        "pause": build_pause(one, fleet.now),
        "longest_reason": MAX_REASON,
        "given": visit.form or PauseForm(hours=_choose_hours(one, fleet.now)),
    }
    return View("pause.html", f"Pause {one.facts.title}", values, status, is_live=False)


def pause_connection(visit: Visit) -> View | Redirect:
    return act(visit, Action.PAUSE, lambda: _read_pause(visit.form), show_pause)


def show_resume(visit: Visit, problem: str = "", status: int = 200) -> View:
    """Return the page that says what a resume does. Raises NotFound."""
    fleet, one = find_connection(visit)
    values = {
        "connection": describe_identity(one),
        "problem": problem,
        "activity": one.activity,
        "pause": build_pause(one, fleet.now),
    }
    return View("resume.html", f"Resume {one.facts.title}", values, status, is_live=False)


def resume_connection(visit: Visit) -> View | Redirect:
    return act(visit, Action.RESUME, ResumeParameters, show_resume)


def act(
    visit: Visit, action: Action, build: Callable[[], Parameters], show: Show
) -> View | Redirect:
    """Submit an action, and lead to its outcome; what was refused keeps its page open.

    Raises NotFound.
    """
    number = visit.ids["connection_id"]
    try:
        request = OperationRequest(action, [number], build())
        # No message is sent from here: the next tick finds it, within two seconds.
        submitted = submit_or_record(visit.context.database, visit.actor, request, hold_seconds=0.0)
    except StateConflict as error:
        visit.context.forget(number)
        return show(visit, error.message, 409)
    except InvalidInput as error:
        return show(visit, error.message, 422)
    visit.context.forget(number)
    return Redirect(f"/connections/{number}?operation={submitted.operation.id}")


def _read_pause(form: PauseForm) -> PauseParameters:
    """Return the parameters of a pause. Raises InvalidInput."""
    require_reason(form.reason)
    until = None
    if form.until is not None:
        until = _parse_until(form.until)
    elif form.hours is not None:
        until = datetime.now(UTC) + timedelta(hours=form.hours)
    return PauseParameters(form.reason, until)


def require_reason(reason: str | None) -> None:
    """Raise InvalidInput without a reason, which colleagues need who find the pause later."""
    if reason is None or not reason.strip():
        raise InvalidInput("give the reason of the pause; colleagues and the audit see it")


def _choose_hours(one: FleetConnection, now: datetime) -> int | None:
    """Return how long a pause lasts at first; one that has no end keeps that."""
    facts = one.facts
    return None if facts.is_paused(now) and facts.paused_until is None else USUAL_HOURS


def _parse_until(text: str) -> datetime:
    """Return a time of the field, which browsers send without a zone. Raises InvalidInput."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            "the end of the pause must be a time, such as 2026-11-30T10:00"
        ) from None


def _describe_price(found: Price) -> Mapping[str, Any]:
    return {"text": found.describe(), "gaps": found.describe_gaps()}
