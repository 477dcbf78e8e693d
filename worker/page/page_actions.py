"""What a page of ours can do about a condition: links beside the remedy. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from worker.conditions.condition import Code, Condition
from worker.overview.fleet import Fleet, FleetConnection


class PageAction(msgspec.Struct, frozen=True):
    """A link to where a condition can be dealt with."""

    title: str
    path: str
    resource: str | None = None
    """The resource that the page begins with."""
    acts: bool = False
    """Whether it leads to a form, which only who may operate can use."""


_RESYNC: Final = PageAction("Resync …", "/resync", acts=True)
_DISCOVERY: Final = PageAction("Read Nango's list …", "/discovery", acts=True)
_CUSTOMER_TEXT: Final = PageAction("The text for the customer", "#permissions")
_RESOURCES: Final = PageAction("Its resources", "#resources")
_BUDGET: Final = PageAction("Budget and workers", "/budget")
_SINKS: Final = PageAction("Sinks", "/sinks")

CONNECTION_ACTIONS: Final[Mapping[Code, Sequence[PageAction]]] = {
    Code.TOKEN_REFUSED: (_RESYNC,),
    Code.OTHER_TENANT: (_RESYNC,),
    Code.REFUSED_BY_NANGO: (_RESYNC, _DISCOVERY),
    Code.PAUSED_IN_NANGO: (_DISCOVERY,),
    Code.SETTINGS_WRONG: (_DISCOVERY,),
    Code.DUPLICATE: (_DISCOVERY,),
    Code.PAUSED_BY_OPERATOR: (
        PageAction("Resume …", "/resume", acts=True),
        PageAction("Change the pause …", "/pause", acts=True),
    ),
    Code.PERMISSION_MISSING: (_CUSTOMER_TEXT, _RESYNC),
    Code.HELD_DELETIONS: (PageAction("Decide on held deletions …", "/held", acts=True),),
    Code.NEVER_LOADED: (_RESYNC,),
    Code.LATE: (_RESYNC,),
    Code.SYNC_FAILING: (_RESYNC,),
    Code.QUARANTINE: (_RESOURCES,),
    Code.DRIFT_HIGH: (_RESOURCES,),
}
"""For conditions of a connection. A path follows that of the connection, or is a part of it."""
WITHOUT_ACTION: Final[Mapping[Code, str]] = {
    Code.REFUSED_BY_NANGO: "it is corrected in the settings of the service, or by that command",
    Code.HALTED: "it is corrected in the settings of the service or in Nango",
    Code.SERVER_UNUSABLE: "it is corrected on the host of that server",
    Code.CLOCK_OFF: "it is corrected on the host whose clock is wrong",
}
"""Where a condition of the service is corrected that no page of ours can do anything about."""
SERVICE_ACTIONS: Final[Mapping[Code, Sequence[PageAction]]] = {
    Code.THROTTLED_BY_GRAPH: (_BUDGET,),
    Code.NANGO_SILENT: (_BUDGET,),
    Code.WAITING_FOR_BUDGET: (_BUDGET,),
    Code.DISPATCHER_SILENT: (_BUDGET,),
    Code.WORKERS_SILENT: (_BUDGET,),
    Code.RELAY_MISSING: (_SINKS,),
    Code.SINK_FAILING: (_SINKS,),
    Code.EVENTS_LOST: (_SINKS,),
}
"""For conditions of the service."""


def list_connection_actions(
    fleet: Fleet, one: FleetConnection, condition: Condition
) -> list[PageAction]:
    """Return what the page can do about a condition of a connection."""
    twins = _list_twins(fleet, one) if condition.code is Code.DUPLICATE else []
    return twins + [
        replace(
            action,
            path=action.path
            if action.path.startswith("#")
            else f"/connections/{one.id}{action.path}",
            resource=condition.resource if action is _RESYNC else None,
        )
        for action in CONNECTION_ACTIONS.get(condition.code, ())
        if (action is not _RESYNC or one.facts.is_synced)
        and (action is not _CUSTOMER_TEXT or condition.customer_text is not None)
    ]


def _list_twins(fleet: Fleet, one: FleetConnection) -> list[PageAction]:
    """Return links to the connections that mirror the same tenant."""
    tenant = one.facts.tenant_id
    if tenant is None:
        return []
    return [
        PageAction(f"The other connection, {other.id}", f"/connections/{other.id}")
        for other in fleet.in_use
        if other.facts.tenant_id == tenant and other.facts.is_synced and other.id != one.id
    ]


def list_service_actions(condition: Condition) -> Sequence[PageAction]:
    """Return the pages about a condition of the service."""
    return SERVICE_ACTIONS.get(condition.code, ())
