"""Reasons that are stored with a connection, stream or run, and what each of them means.

The modules that write such a reason take its text from here, so that the judge recognizes it.
"""

from typing import Final

from worker.conditions.condition import Code

ACCESS_REJECTED: Final = "Graph rejects the connection's token; the customer must reconnect"
ACCESS_NOT_RENEWED: Final = (
    "Nango could not renew the connection's token; if it lasts, the customer must reconnect"
)
ACCESS_NOT_RENEWED_NOW: Final = (
    "Nango could not renew the connection's token a moment ago; if it lasts, reconnect it"
)
OTHER_TENANT: Final = "it now belongs to another Microsoft tenant"
TENANT_UNKNOWN: Final = "the tenant of the connection cannot be determined"
NOT_OFFERED: Final = "the tenant does not offer this"
NOT_LICENSED: Final = "the tenant has no licence for this"
GRAPH_ANSWERED: Final = "Graph answered"
THROTTLED: Final = f"{GRAPH_ANSWERED} 429"
SLOWED_DOWN: Final = "Graph asks to slow down"
BUDGET_SPENT: Final = "Nango's budget of calls a minute is spent for now"

NEEDS: Final = "needs"
"""Begins the reason of a resource that is read below the objects of another one."""

NANGO_AWAY: Final = "Nango is unavailable"

_ACCESS_REASONS: Final = frozenset({ACCESS_REJECTED, ACCESS_NOT_RENEWED, ACCESS_NOT_RENEWED_NOW})


def classify_broken(reason: str | None) -> Code:
    """Return why a connection is broken."""
    if reason is None or reason in _ACCESS_REASONS:
        return Code.TOKEN_REFUSED
    if reason.startswith(OTHER_TENANT):
        return Code.OTHER_TENANT
    if reason.startswith(TENANT_UNKNOWN):
        return Code.PERMISSION_MISSING
    return Code.REFUSED_BY_NANGO


def is_throttled(reason: str | None) -> bool:
    """Whether Graph asked to wait."""
    return reason is not None and reason.startswith((THROTTLED, SLOWED_DOWN))


def is_budget_spent(reason: str | None) -> bool:
    """Whether Nango's budget was used up."""
    return reason is not None and reason.startswith(BUDGET_SPENT)


def is_not_offered(reason: str | None) -> bool:
    """Whether a tenant lacks a resource, as opposed to not permitting it."""
    return reason is not None and reason.endswith(NOT_OFFERED)


def is_not_licensed(reason: str | None) -> bool:
    """Whether a tenant lacks the licence that a resource needs."""
    return reason is not None and reason.endswith(NOT_LICENSED)


def is_nango_away(reason: str | None) -> bool:
    """Whether Nango did not work."""
    return reason is not None and reason.startswith(NANGO_AWAY)


def is_waiting_for_other(reason: str | None) -> bool:
    """Whether a resource waits for another one, below whose objects it is read."""
    return reason is not None and reason.startswith(f"{NEEDS} ")
