"""Is this deletion believable? Pure.

A customer may really delete half a directory, but a fault that looks like it is likelier, and
waiting for a person costs less than a wrong deletion.
"""

from collections.abc import Sequence
from typing import TypeVar

from worker.sync.policy import Policy

T = TypeVar("T")


def implausible(policy: Policy, *, going: int, live: int, empty: bool = False) -> str | None:
    """Why a deletion of ``going`` out of ``live`` rows must wait for approval, or None.

    Held: more than a share *and* more than a number of rows; or an answer that was ``empty``
    for a table that is not.
    """
    if not going:
        return None
    if empty:
        return f"Graph answered with nothing, and all {going} rows would be deleted"
    share = 100 * going / live if live else 0.0
    if going > policy.guard_rows and share > policy.guard_percent:
        return (
            f"{going} of {live} rows ({share:.0f} %) would be deleted, "
            f"more than {policy.guard_percent:g} %"
        )
    return None


def too_many_missing(
    missing: int, used: int, *, floor: int, percent: float, new_key: bool
) -> str | None:
    """Why so many customers that Nango's list lacks must wait for approval, or None.

    Held: more than a number of customers *and* more than a share of them; or all of them, be it
    one, where the list was read with another key or address than the one before.
    """
    if not missing:
        return None
    share = 100 * missing / used
    everybody = new_key and missing == used
    if not everybody and (missing <= floor or share <= percent):
        return None
    return (
        f"{missing} of {used} connections are missing from Nango's list ({share:.0f} %); "
        "NANGO_SECRET_KEY may be the key of another environment"
    )


def hidden_away(groups: int, members: int) -> str:
    """Why the last memberships of groups with hidden membership must wait for approval."""
    those = "a group" if groups == 1 else f"{groups} groups"
    return (
        f"all {members} members that are left of {those} with hidden membership would be deleted; "
        "more likely they are no longer shown: grant the application permission "
        "Member.Read.Hidden and consent to it again"
    )


def sample(keys: Sequence[T], *, everything_up_to: int = 200, otherwise: int = 100) -> Sequence[T]:
    """The keys to read by id before a sweep is believed: all, or an even sample of very many."""
    if len(keys) <= everything_up_to:
        return keys
    step = len(keys) / otherwise
    return [keys[int(index * step)] for index in range(otherwise)]
