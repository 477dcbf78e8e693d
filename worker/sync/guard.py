"""Is this deletion believable? Pure.

A customer may really delete half a directory, but a fault that looks like it is likelier, and
waiting for a person costs less than a wrong deletion.
"""

from collections.abc import Sequence
from typing import TypeVar

from worker.sync.policy import Policy

T = TypeVar("T")


def check_deletion(
    policy: Policy, *, deleted: int, live_rows: int, is_empty_answer: bool = False
) -> str | None:
    """Why a deletion of ``deleted`` out of ``read_live_rows`` rows must wait for approval, or None.

    Held: more than a share *and* more than a number of rows; or an answer that was
    ``is_empty_answer`` for a table that is not.
    """
    if not deleted:
        return None
    if is_empty_answer:
        return f"Graph answered with nothing, and all {deleted} rows would be deleted"
    share = 100 * deleted / live_rows if live_rows else 0.0
    if deleted > policy.guard_rows and share > policy.guard_percent:
        return (
            f"{deleted} of {live_rows} rows ({share:.0f} %) would be deleted, "
            f"more than {policy.guard_percent:g} %"
        )
    return None


def check_missing_connections(
    missing: int, in_use: int, *, min_missing: int, percent: float, has_new_key: bool
) -> str | None:
    """Why so many customers that Nango's list lacks must wait for approval, or None.

    Held: more than a number of customers *and* more than a share of them; or all of them, be it
    one, where the list was read with another key or address than the one before.
    """
    if not missing:
        return None
    share = 100 * missing / in_use
    everybody = has_new_key and missing == in_use
    if not everybody and (missing <= min_missing or share <= percent):
        return None
    return (
        f"{missing} of {in_use} connections are missing from Nango's list ({share:.0f} %); "
        "NANGO_SECRET_KEY may be the key of another environment"
    )


def explain_hidden_members(groups: int, members: int) -> str:
    """Why the last memberships of groups with hidden membership must wait for approval."""
    those = "a group" if groups == 1 else f"{groups} groups"
    return (
        f"all {members} members that are left of {those} with hidden membership would be deleted; "
        "more likely they are no longer shown: grant the application permission "
        "Member.Read.Hidden and consent to it again"
    )


def sample(keys: Sequence[T], *, all_up_to: int = 200, size: int = 100) -> Sequence[T]:
    """The keys to read by id before a sweep is believed: all, or an even sample of very many."""
    if len(keys) <= all_up_to:
        return keys
    step = len(keys) / size
    return [keys[int(index * step)] for index in range(size)]
