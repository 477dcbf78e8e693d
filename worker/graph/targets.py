"""The first links of every walk, and the paths of single reads. Read off the registry."""

from collections.abc import Collection
from typing import Final
from urllib.parse import quote

from models.resource import Resource
from worker.graph.links import VERSION

HOST: Final = "https://graph.microsoft.com"
GRAPH: Final = f"{HOST}{VERSION}"
ORGANIZATION: Final = f"{VERSION}/organization?$select=id,displayName"
SITE_SEARCH: Final = "/sites?search=*"


def _selected(resource: Resource, without: Collection[str], *, children: bool) -> str:
    left_out = {*without} if children else {*without, *resource.children}
    names = [name for name in resource.selected if name not in left_out]
    return f"$select={','.join(names)}"


def listing_link(
    resource: Resource, without: Collection[str] = (), *, top: int | None = None
) -> str:
    """The first page of a plain listing, ``without`` some properties; ``top`` objects a page."""
    query = [_selected(resource, without, children=False)] if resource.select else []
    if top or resource.page_size:
        query.append(f"$top={top or resource.page_size}")
    return f"{GRAPH}{resource.path}{'?' if query else ''}{'&'.join(query)}"


def search_link(
    resource: Resource, without: Collection[str] = (), *, top: int | None = None
) -> str:
    """Sites by search: all that is left where the complete listing is refused."""
    size = f"&$top={top}" if top else ""
    return f"{GRAPH}{SITE_SEARCH}&{_selected(resource, without, children=False)}{size}"


def delta_link(resource: Resource, without: Collection[str] = (), *, top: int | None = None) -> str:
    """The first page of a delta enumeration from the start."""
    size = f"&$top={top}" if top else ""
    return f"{GRAPH}{resource.delta_path}?{_selected(resource, without, children=True)}{size}"


def token_link(resource: Resource, without: Collection[str] = (), *, top: int | None = None) -> str:
    """Asks for a delta link that starts now."""
    return f"{delta_link(resource, without, top=top)}&$deltatoken=latest"


def assignments_link(resource: Resource, role_definition_id: str) -> str:
    """The assignments of one role definition, where Graph demands the filter."""
    condition = quote(f"roleDefinitionId eq '{role_definition_id}'", safe="'")
    return f"{GRAPH}{resource.path}?$filter={condition}"


def object_target(
    resource: Resource, identity: str, *, whole: bool = False, without: Collection[str] = ()
) -> str:
    """One object by id: only whether it is there, or as a whole ``without`` some properties."""
    path = f"{VERSION}{resource.by_id.replace('{id}', quote(identity, safe=','))}"
    if not resource.select:
        return path
    return f"{path}?{_selected(resource, without, children=False) if whole else '$select=id'}"


def members_target(group_id: str, *, top: int | None = None) -> str:
    """The direct members of a group, ``top`` on a page."""
    return f"{VERSION}/groups/{group_id}/members?$select=id&$top={top or 999}"


def member_of_target(kind: str, identity: str) -> str:
    """The groups that a user or a group is a direct member of."""
    return f"{VERSION}/{kind}/{identity}/memberOf?$select=id&$top=999"
