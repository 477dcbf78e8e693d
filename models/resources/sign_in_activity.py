"""When users signed in last. https://learn.microsoft.com/graph/api/resources/signinactivity

Graph sends it in lists only, on small pages, and without delta. A user without it has not signed in
since Graph keeps it (April 2020), or signs in where it is not kept: absence is not "never". The
last sign-in counts failed ones as well.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET

from models.property import Property, facet, guid, timestamp
from models.record import Timestamp
from models.resource import Resource
from models.source import Source


class SignInActivity(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """The last sign-ins of a user, by kind."""

    last_sign_in_date_time: Timestamp | None = None
    last_non_interactive_sign_in_date_time: Timestamp | None = None
    last_successful_sign_in_date_time: Timestamp | None = None


_TIMES: Final = SignInActivity.__struct_fields__


def derive_columns(user: Any) -> Mapping[str, object]:
    """Return the times of the last sign-ins."""
    activity = user.sign_in_activity
    if activity is UNSET:
        return dict.fromkeys(_TIMES, UNSET)
    return {name: getattr(activity, name, None) for name in _TIMES}


def _declare(name: str, meaning: str) -> Property:
    return timestamp(name, meaning, personal=True, derived=True, derived_from=("sign_in_activity",))


SIGN_IN_ACTIVITY: Final = Resource(
    name="sign_in_activity",
    meaning="When users signed in last; absence does not mean never",
    graph_type="user",
    permission="AuditLog.Read.All",
    by_id="/users/{id}",
    source=Source(path="/users", page_size=500, intervals=("daily_seconds",)),
    derive=derive_columns,
    stored_if=_TIMES,
    has_events=False,
    is_optional=True,
    event_noun="sign_in_activity",
    phrase="sign-ins of {id}",
    properties=(
        guid("id", "the user", key=True, references=("users",)),
        facet("sign_in_activity", SignInActivity, "the last sign-ins"),
        _declare("last_sign_in_date_time", "last interactive sign-in, also one that failed"),
        _declare(
            "last_non_interactive_sign_in_date_time",
            "last sign-in by a program in the user's name, also one that failed",
        ),
        _declare("last_successful_sign_in_date_time", "last sign-in that succeeded"),
    ),
)
