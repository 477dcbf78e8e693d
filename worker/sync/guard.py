"""Check whether a deletion is plausible. Pure functions.

A customer may really delete half a directory, but a fault that looks the same is more likely, and
waiting for an operator costs less than a wrong deletion.
"""

from collections.abc import Sequence
from typing import TypeVar

from worker.sync.policy import Policy

T = TypeVar("T")


def check_deletion(
    policy: Policy, *, deleted: int, live_rows: int, is_empty_answer: bool = False
) -> str | None:
    """Return why deleting ``deleted`` of ``live_rows`` rows needs approval, or None.

    It does if it exceeds both a share and a number of rows, or if Graph returned nothing for a
    table that has rows (``is_empty_answer``).
    """
    if not deleted:
        return None
    if is_empty_answer:
        return f"Graph returned no objects, so all {deleted} rows would be deleted"
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
    """Return why connections missing from Nango's list need approval, or None.

    They do if they exceed both a number and a share of the connections in use, or if all are
    missing (even a single one) and the list was read with another key or address than the one
    before.
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


def explain_hidden_members(resource: str, parents: int, members: int) -> str:
    """Return why the last members of parents with hidden membership need approval.

    ``resource`` is that of the parents, such as ``groups``.
    """
    nouns = resource.replace("_", " ")
    noun = nouns.removesuffix("s")
    one = f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
    those = one if parents == 1 else f"{parents} {nouns}"
    return (
        f"all {members} members that are left of {those} with hidden membership would be deleted; "
        "more likely they are no longer shown: grant the application permission "
        "Member.Read.Hidden and consent to it again"
    )


def sample(keys: Sequence[T], *, all_up_to: int = 200, size: int = 100) -> Sequence[T]:
    """Return the keys to read by id before a sweep: all of them, or an even sample of many."""
    if len(keys) <= all_up_to:
        return keys
    step = len(keys) / size
    return [keys[int(index * step)] for index in range(size)]
