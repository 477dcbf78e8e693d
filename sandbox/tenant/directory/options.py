"""How a tenant behaves: page sizes, refusals and Graph's permitted oddities.

All may be changed while the tenant is being served.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

LoopKind = Literal["", "same", "cycle", "payload", "empty", "again"]


@dataclass(slots=True)
class TenantOptions:
    """Every default is Graph's usual behaviour."""

    list_page_size: int = 100
    """Page of a plain list without `$top`."""
    max_page_size: int = 999
    """Page of a plain list at most: a larger `$top` is cut to it in silence."""
    refuse_top_above: int = 0
    """A larger `$top` is answered with 400, as a cap of the service. 0: none is."""
    time_out_above: int = 0
    """A page of users or groups with more objects than this is answered with 504. 0: none is."""
    time_out_members_above: int = 0
    """The same for a `$top` of /groups/{id}/members."""
    member_page_size: int = 0
    """Page of /groups/{id}/members without `$top`; 0: as `list_page`."""
    delta_page_size: int = 200
    """Objects on a page of users/delta and groups/delta."""
    members_per_entry: int = 500
    """Entries of `members@delta` for one group on one page; a bigger group is repeated."""
    site_page_size: int = 100
    role_page_size: int = 100
    empty_page_every: int = 0
    """Every n-th page (n > 1) of a walk is empty, with a next link. 0: none."""
    repeat_every: int = 0
    """Every n-th page repeats an object of its own, and its last one on the next page. 0: none."""
    initial_tombstones: bool = False
    """The first delta round tells also of objects that were deleted before it."""
    readd_on_restore: bool = True
    """Memberships of a restored user or group are told again as `members@delta`."""
    removals_on_delete: bool = False
    """Deleting a user or group is told as `@removed` in its groups' `members@delta` too."""
    refused_resources: set[str] = field(default_factory=set)
    """Resources (or "organization") answered with 403 Authorization_RequestDenied."""
    refuse_get_all_sites: bool = False
    """getAllSites answers 403 accessDenied; the search goes on working."""
    unknown_properties: set[str] = field(default_factory=set)
    """Properties such as "users.employeeType" that this tenant's Graph does not know."""
    names_unknown_property: bool = True
    """Whether the 400 for such a property says which one it is."""
    requires_role_filter: bool = False
    """roleAssignments without `$filter` answers 400."""
    batch_error_status: int = 0
    """The status with which every `$batch` is refused. 0: none."""
    mutations_between_items: int = 0
    """Random mutations between two items of a `$batch`."""
    before_next_item: Callable[[int], None] | None = None
    """Called before each item of a `$batch` but the first, with the number of items done."""
    expired_delta_code: str = "syncStateNotFound"
    """Code of the 410 for a dead delta token; `resyncRequired` is the other one seen."""
    expired_token_location: bool = True
    """Whether that 410 has a Location."""
    page_token_ttl: float = 0.0
    """Seconds after which a page token of a list is expired. 0: it never is."""
    delta_token_ttl: float = 0.0
    """Seconds after which a delta token, or a page token of a delta round, is expired."""

    resource_units: int = 0
    """Resource units that the directory allows in a window. 0: any number."""
    resource_unit_window: float = 10.0
    sharepoint_units: int = 0
    """Resource units that SharePoint, which has the sites, allows in a window. 0: any number."""
    sharepoint_unit_window: float = 60.0
    sharepoint_status: int = 429
    """With what SharePoint throttles; 503 is the other one seen."""

    no_delta: bool = False
    """A tenant without delta queries, as Azure AD B2C and External ID are."""
    no_delta_status: int = 400
    no_delta_code: str = "Request_UnsupportedQuery"
    hide_hidden_members: bool = False
    """Groups with hidden membership show no member, as if Member.Read.Hidden was not granted."""

    loop: LoopKind = ""
    """How walks go in circles from page `loop_at` on, and never end.

    same: a page links to itself. cycle: the last of `loop_length` pages links to the first one.
    payload: every link is new, and gives the same page. empty: every link is new, every page is
    empty. again: after the last page comes the first one, with a new link.
    """
    loop_start_page: int = 1
    """The first page of a walk is 0."""
    loop_length: int = 3
    loop_paths: set[str] = field(default_factory=set)
    """Paths such as "users/delta" and "groups/{id}/members"; empty: every walk."""
