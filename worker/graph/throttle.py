"""How Graph throttles: services with budgets of their own, and headers that ask for a pause.

SharePoint's budget is separate from the directory's. Loads no HTTP client, as ``status`` needs it.
https://learn.microsoft.com/graph/throttling
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from models.resources import RESOURCES
from worker.nango.response import ApiResponse

DIRECTORY_SERVICE: Final = "directory"
SHAREPOINT_SERVICE: Final = "sharepoint"
SERVICES: Final = (DIRECTORY_SERVICE, SHAREPOINT_SERVICE)

_SERVICES_BY_ROOT: Final = {
    one.source.path.split("/")[1]: one.service for one in RESOURCES.values()
}
"""Services by the first part of a path behind the version."""

UNITS_HEADER: Final = "x-ms-resource-unit"
PERCENTAGE_HEADER: Final = "x-ms-throttle-limit-percentage"
SCOPE_HEADER: Final = "x-ms-throttle-scope"
REMAINING_HEADER: Final = "ratelimit-remaining"
THROTTLE_HEADERS: Final = (
    PERCENTAGE_HEADER,
    SCOPE_HEADER,
    "x-ms-throttle-information",
    "ratelimit-limit",
    REMAINING_HEADER,
)

SLOWDOWN_SHARE: Final = 0.8
"""Used share of a customer's Graph budget from which we slow down, before Graph sends 429."""

UNITS_WINDOW: Final = 10.0
"""Length in seconds of the directory's window of resource units."""

LIST_UNITS: Final = 2.0
"""Resource units that a page of a list costs at SharePoint."""

USER_AGENT: Final = "NONISV|TenantMirror|TenantMirror/0.1"
"""In the form that SharePoint asks for, so that it does not throttle us as anonymous traffic."""

_REQUEST_HEADERS: Final = MappingProxyType(
    {"User-Agent": USER_AGENT, "X-Ms-Throttle-Priority": "low"}
)


class GraphThrottle:
    """The throttle policy of Microsoft Graph."""

    @property
    def request_headers(self) -> Mapping[str, str]:
        return _REQUEST_HEADERS

    def find_service(self, path: str) -> str:
        """Return the service whose budget a request uses; ``path`` may include the query."""
        _, _, root, *_ = f"{path.partition('?')[0]}//".split("/")
        return _SERVICES_BY_ROOT.get(root, DIRECTORY_SERVICE)

    def parse_pause(self, response: ApiResponse, now: float) -> float:
        """Return the seconds to pause this customer's calls of the service; 0 for none.

        From a refusal: its Retry-After if it names the whole scope (else only its own stream
        waits), or SharePoint's RateLimit headers, whichever is longer. Before a refusal: the more
        of the budget is used the longer, from half a second at 80 % to the whole window at 100 %.
        """
        reset = response.get_number("ratelimit-reset")
        if response.status in (429, 503):
            whole = reset is not None or SCOPE_HEADER in response.headers
            return max(response.get_retry_after(now) or 0.0, reset or 0.0) if whole else 0.0
        used = response.get_number(PERCENTAGE_HEADER)
        if used is not None and used >= SLOWDOWN_SHARE:
            share = min(1.0, (used - SLOWDOWN_SHARE) / (1 - SLOWDOWN_SHARE))
            return 0.5 + (UNITS_WINDOW - 0.5) * share**2
        left = response.get_number(REMAINING_HEADER)
        if left is not None and reset is not None:
            return min(reset, 60.0) * min(1.0, LIST_UNITS / max(left, 1.0))
        return 0.0
