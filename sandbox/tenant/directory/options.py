"""The options of a tenant's behaviour: page sizes, refusals and Graph's oddities.

All may be changed while the tenant is served.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

LoopKind = Literal["", "same", "cycle", "payload", "empty", "again"]


LICENCES = ("p1", "p2")
"""The licences that some resources need."""


@dataclass(slots=True)
class TenantOptions:
    """Options of a tenant. Every default is Graph's usual behaviour."""

    list_page_size: int = 100
    """Objects on a page of a plain list without `$top`."""
    max_page_size: int = 999
    """Most objects on a page of a plain list; a larger `$top` is silently reduced to it."""
    refuse_top_above: int = 0
    """A larger `$top` gets 400, like a limit of the service. 0: no limit."""
    time_out_above: int = 0
    """A page of users or groups with more objects than this gets 504. 0: no limit."""
    time_out_members_above: int = 0
    """The same for a `$top` of /groups/{id}/members."""
    member_page_size: int = 0
    """Members on a page of /groups/{id}/members without `$top`; 0: as `list_page_size`."""
    delta_page_size: int = 200
    """Objects on a page of users/delta and groups/delta."""
    members_per_entry: int = 500
    """Entries of `members@delta` for one group on one page; a bigger group is repeated."""
    site_page_size: int = 100
    role_page_size: int = 100
    empty_page_every: int = 0
    """Every n-th page (n > 1) of a walk is empty, with a next link. 0: none."""
    repeat_every: int = 0
    """Every n-th page repeats its first object, and its last one on the next page. 0: none."""
    initial_tombstones: bool = False
    """Whether the first delta round also reports objects that were deleted before it."""
    readd_on_restore: bool = True
    """Whether memberships of a restored user or group are reported again as `members@delta`."""
    removals_on_delete: bool = False
    """Whether a deleted user or group is also `@removed` in its groups' `members@delta`."""
    refused_resources: set[str] = field(default_factory=set)
    """Resources (or "organization") answered with 403 Authorization_RequestDenied."""
    refused_service_principals: set[str] = field(default_factory=set)
    """Service principals whose appRoleAssignedTo gets 403 Authorization_RequestDenied."""
    time_out_app_roles_above: int = 0
    """A page of appRoleAssignedTo with more objects than this gets 504. 0: no limit."""
    ungranted_resources: set[str] = field(default_factory=set)
    """Resources answered with 403 UnknownError, whose message is a document: its code
    PermissionScopeNotGranted, and the permissions that would do."""
    unlicensed_resources: set[str] = field(default_factory=set)
    """Resources answered with 400 AadPremiumLicenseRequired, as the tenant lacks the licence."""
    licences: set[str] = field(default_factory=lambda: set(LICENCES))
    """Licences of the tenant: p2 for instances of schedules, p1 (or p2) for signInActivity."""
    sign_in_max_page: int = 500
    """A larger `$top` of a list of users with signInActivity gets 400. 0: no limit."""
    manager_delta_silent: float = 0.0
    """Share of the changes of managers that no delta tells of."""
    refuse_get_all_sites: bool = False
    """Whether getAllSites gets 403 accessDenied; the search still works."""
    unknown_properties: set[str] = field(default_factory=set)
    """Properties such as "users.employeeType" that this tenant's Graph does not know."""
    names_unknown_property: bool = True
    """Whether the 400 for such a property names it."""
    requires_role_filter: bool = False
    """Whether roleAssignments without `$filter` gets 400."""
    batch_error_status: int = 0
    """The status with which every `$batch` is refused. 0: none."""
    mutations_between_items: int = 0
    """Random mutations between two items of a `$batch`."""
    before_next_item: Callable[[int], None] | None = None
    """Called before each item of a `$batch` except the first, with the number of items done."""
    expired_delta_code: str = "syncStateNotFound"
    """Code of the 410 for an expired delta token; `resyncRequired` was also observed."""
    expired_token_location: bool = True
    """Whether that 410 has a Location."""
    page_token_ttl: float = 0.0
    """Seconds after which a page token of a list expires. 0: never."""
    delta_token_ttl: float = 0.0
    """Seconds after which a delta token, or a page token of a delta round, expires. 0: never."""

    resource_units: int = 0
    """Resource units that the directory allows in a window. 0: no limit."""
    resource_unit_window: float = 10.0
    sharepoint_units: int = 0
    """Resource units that SharePoint (sites) allows in a window. 0: no limit."""
    sharepoint_unit_window: float = 60.0
    sharepoint_status: int = 429
    """Status of SharePoint's throttling; 503 was also observed."""

    no_delta: bool = False
    """Whether the tenant has no delta queries, like Azure AD B2C and External ID."""
    no_delta_status: int = 400
    no_delta_code: str = "Request_UnsupportedQuery"
    hide_hidden_members: bool = False
    """Whether groups with hidden membership show no members, as without Member.Read.Hidden."""

    loop: LoopKind = ""
    """How walks loop from page `loop_start_page` on, and never end.

    same: a page links to itself. cycle: the last of `loop_length` pages links to the first one.
    payload: every link is new and returns the same page. empty: every link is new and every page
    empty. again: after the last page comes the first one, with a new link.
    """
    loop_start_page: int = 1
    """The first page of a walk is 0."""
    loop_length: int = 3
    loop_paths: set[str] = field(default_factory=set)
    """Paths of walks that loop, such as "users/delta" or "groups/{id}/members"; empty: all."""
