"""Resync, pause and resume one connection: a page that says what will happen, and its form."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

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
from worker.page.connection import build_pause, describe_identity, find_connection
from worker.page.format import Zone
from worker.page.page import Redirect, View, Visit
from worker.store.state.metrics import set_statement_timeout

_MAX_HOURS: Final = 24 * 366
_LONGEST_MOMENT: Final = 40


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
        "resources": list(RESOURCES),
        "activity": one.activity,
        "pause": build_pause(one, fleet.now),
    }
    return View("resync.html", f"Resync {one.facts.title}", values, status, is_live=False)


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
        "given": visit.form or PauseForm(),
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
        forget_looks(visit)
        return show(visit, error.message, 409)
    except InvalidInput as error:
        return show(visit, error.message, 422)
    forget_looks(visit)
    return Redirect(_build_place(visit, submitted.operation.id))


def forget_looks(visit: Visit) -> None:
    """Let the next page show what has just been done."""
    visit.context.fleet.invalidate()
    visit.context.looks.invalidate(visit.ids["connection_id"])


def _build_place(visit: Visit, operation: int) -> str:
    zone = "" if visit.query.zone is Zone.UTC else f"&zone={visit.query.zone.value}"
    return f"/connections/{visit.ids['connection_id']}?operation={operation}{zone}"


def _read_pause(form: PauseForm) -> PauseParameters:
    """Return the parameters of a pause. Raises InvalidInput."""
    until = None
    if form.until is not None:
        until = _parse_until(form.until)
    elif form.hours is not None:
        until = datetime.now(UTC) + timedelta(hours=form.hours)
    return PauseParameters(form.reason, until)


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
