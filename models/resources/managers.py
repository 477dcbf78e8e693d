"""Managers, one row for each user who has one. https://learn.microsoft.com/graph/api/user-list-manager

The delta of users tells changes of managers, but not all of them: a list of all users with their
managers is the truth, and the delta brings most changes sooner.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET

from models.property import facet, guid
from models.record import Guid
from models.resource import Resource, Verbs
from models.source import Fallback, Mode, Source


class Manager(msgspec.Struct, frozen=True, gc=False):
    """The manager of a user, expanded to the id."""

    id: Guid


def derive_columns(user: Any) -> Mapping[str, object]:
    """Return the manager that a list, or a delta's list of changes, shows."""
    if user.manager is not UNSET:
        present = [one.id for one in user.manager if one.removed is UNSET]
        return {"manager_id": present[-1] if present else None}
    shown = user.reports_to
    return {"manager_id": shown.id if isinstance(shown, Manager) else shown}


MANAGERS: Final = Resource(
    name="managers",
    meaning="Managers of users, one row for each user who has one",
    graph_type="user",
    permission="User.Read.All",
    by_id="/users/{id}",
    source=Source(
        path="/users",
        delta_path="/users/delta",
        page_size=999,
        intervals=("delta_seconds",),
        full_walk="daily_seconds",
    ),
    fallbacks=(
        Fallback(
            statuses=frozenset({400, 404, 501}),
            at_delta_start=True,
            source=Source(
                mode=Mode.LIST_ONLY,
                path="/users",
                page_size=999,
                intervals=("daily_seconds",),
            ),
        ),
    ),
    relations=("manager",),
    derive=derive_columns,
    stored_if=("manager_id",),
    is_optional=True,
    event_noun="manager",
    verbs=Verbs("assigned", "changed", "removed", restored="assigned"),
    phrase="manager of {id}",
    properties=(
        guid("id", "the user", key=True, references=("users",)),
        facet(
            "reports_to",
            Manager,
            "the manager as lists show it",
            sent_as="manager",
            expand="manager($select=id)",
        ),
        guid(
            "manager_id",
            "the manager",
            references=("users",),
            indexed=True,
            derived=True,
            derived_from=("reports_to",),
        ),
    ),
)
