"""Resource units: what calls cost a tenant, and what Graph says when they cost too much.

The directory and SharePoint, which has the sites, have a budget each. SharePoint counts the calls
that it refuses, the directory does not.
"""

from sandbox.tenant.errors import GraphError
from sandbox.tenant.ids import guid_from
from sandbox.tenant.knobs import Knobs
from sandbox.tenant.windows import Window

_WARNING = 0.8
_APP = guid_from("application", 1)


class Throttle:
    """The budgets of one application in one tenant."""

    def __init__(self) -> None:
        self._directory, self._sharepoint = Window(), Window()

    def directory(self, cost: int, knobs: Knobs, tenant_id: str) -> dict[str, str]:
        """Charge a call; the headers of its reply. Raises GraphError for one too many."""
        headers = {"x-ms-resource-unit": str(cost)}
        limit, window = knobs.resource_units, self._directory
        if not limit:
            return headers
        window.turn(knobs.resource_unit_window)
        used = (window.spent + cost) / limit
        if used > _WARNING:
            headers["x-ms-throttle-limit-percentage"] = f"{used:.2f}"
        if used > 1:
            headers |= {
                "retry-after": str(window.whole_seconds_left),
                "x-ms-throttle-scope": f"Tenant_Application/ReadWrite/{_APP}/{tenant_id}",
                "x-ms-throttle-information": "ResourceUnitLimitExceeded",
            }
            raise GraphError(429, "TooManyRequests", "Too Many Requests", headers)
        window.spent += cost
        return headers

    def sharepoint(self, cost: int, knobs: Knobs) -> dict[str, str]:
        """Charge a call about sites; the headers of its reply. Raises GraphError likewise."""
        limit, window = knobs.sharepoint_units, self._sharepoint
        if not limit:
            return {}
        window.turn(knobs.sharepoint_window)
        window.spent += cost
        if window.spent < limit * _WARNING:
            return {}
        headers = {
            "ratelimit-limit": str(limit),
            "ratelimit-remaining": str(max(limit - window.spent, 0)),
            "ratelimit-reset": str(window.whole_seconds_left),
        }
        if window.spent > limit:
            headers["retry-after"] = str(window.whole_seconds_left)
            raise busy(knobs.sharepoint_status, headers)
        return headers


def busy(status: int, headers: dict[str, str]) -> GraphError:
    """SharePoint's refusal, whose reason is nested."""
    if status == 503:
        return GraphError(503, "serviceNotAvailable", "The service is unavailable.", headers)
    inner = {"code": "throttledRequest", "innerError": {"code": "quota"}}
    return GraphError(
        status, "activityLimitReached", "The request has been throttled", headers, inner
    )
