"""Resource units: the costs of calls, and Graph's responses when they exceed the budget.

The directory and SharePoint (sites) each have a budget. SharePoint counts refused calls, the
directory does not.
"""

from sandbox.tenant.budget_window import BudgetWindow
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.options import TenantOptions
from sandbox.tenant.errors import GraphError, build_sharepoint_throttled

_WARNING = 0.8
_APP = guid_from_parts("application", 1)


class ResourceUnits:
    """The budgets of one application in one tenant."""

    def __init__(self) -> None:
        self._directory, self._sharepoint = BudgetWindow(), BudgetWindow()

    def charge_directory(self, cost: int, options: TenantOptions, tenant_id: str) -> dict[str, str]:
        """Charge a call and return its headers. Raises GraphError beyond the budget."""
        headers = {"x-ms-resource-unit": str(cost)}
        limit, window = options.resource_units, self._directory
        if not limit:
            return headers
        window.renew_if_over(options.resource_unit_window)
        used = (window.spent + cost) / limit
        if used > _WARNING:
            headers["x-ms-throttle-limit-percentage"] = f"{used:.2f}"
        if used > 1:
            headers |= {
                "retry-after": str(window.retry_after),
                "x-ms-throttle-scope": f"Tenant_Application/ReadWrite/{_APP}/{tenant_id}",
                "x-ms-throttle-information": "ResourceUnitLimitExceeded",
            }
            raise GraphError(429, "TooManyRequests", "Too Many Requests", headers)
        window.spent += cost
        return headers

    def charge_sharepoint(self, cost: int, options: TenantOptions) -> dict[str, str]:
        """Charge a call about sites and return its headers. Raises GraphError beyond the budget."""
        limit, window = options.sharepoint_units, self._sharepoint
        if not limit:
            return {}
        window.renew_if_over(options.sharepoint_unit_window)
        window.spent += cost
        if window.spent < limit * _WARNING:
            return {}
        headers = {
            "ratelimit-limit": str(limit),
            "ratelimit-remaining": str(max(limit - window.spent, 0)),
            "ratelimit-reset": str(window.retry_after),
        }
        if window.spent > limit:
            headers["retry-after"] = str(window.retry_after)
            raise build_sharepoint_throttled(options.sharepoint_status, headers)
        return headers
