"""How a tenant behaves: page sizes, refusals and Graph's permitted oddities.

All may be changed while the tenant is being served.
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Knobs:
    """Every default is Graph's usual behaviour."""

    list_page: int = 100
    """Page of a plain list without `$top`."""
    delta_page: int = 200
    """Objects on a page of users/delta and groups/delta."""
    member_slice: int = 500
    """Entries of `members@delta` for one group on one page; a bigger group is repeated."""
    site_page: int = 100
    role_page: int = 100
    empty_page_every: int = 0
    """Every n-th page (n > 1) of a walk is empty, with a next link. 0: none."""
    repeat_every: int = 0
    """Every n-th page repeats an object of its own, and its last one on the next page. 0: none."""
    tombstones_first: bool = False
    """The first delta round tells also of objects that were deleted before it."""
    readd_on_restore: bool = True
    """Memberships of a restored user or group are told again as `members@delta`."""
    removals_on_delete: bool = False
    """Deleting a user or group is told as `@removed` in its groups' `members@delta` too."""
    refused: set[str] = field(default_factory=set)
    """Resources (or "organization") answered with 403 Authorization_RequestDenied."""
    refuse_get_all_sites: bool = False
    """getAllSites answers 403 accessDenied; the search goes on working."""
    demand_role_filter: bool = False
    """roleAssignments without `$filter` answers 400."""
    refuse_batch: int = 0
    """The status with which every `$batch` is refused. 0: none."""
    mutations_between_items: int = 0
    """Random mutations between two items of a `$batch`."""
    between_items: Callable[[int], None] | None = None
    """Called before each item of a `$batch` but the first, with the number of items done."""
    expired_code: str = "syncStateNotFound"
    """Code of the 410 for a dead delta token; `resyncRequired` is the other one seen."""
    expired_location: bool = True
    """Whether that 410 has a Location."""
