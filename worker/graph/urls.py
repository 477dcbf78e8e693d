"""The first links of every walk, and the paths of single reads. Read off the registry."""

from collections.abc import Collection
from typing import Final
from urllib.parse import quote

from models.resource import Resource
from worker.graph.links import VERSION

GRAPH_HOST: Final = "https://graph.microsoft.com"
GRAPH_URL: Final = f"{GRAPH_HOST}{VERSION}"
ORGANIZATION_PATH: Final = f"{VERSION}/organization?$select=id,displayName"
SITE_SEARCH_PATH: Final = "/sites?search=*"


def _build_select(resource: Resource, without: Collection[str], *, children: bool) -> str:
    left_out = {*without} if children else {*without, *resource.children}
    names = [name for name in resource.selected if name not in left_out]
    return f"$select={','.join(names)}"


def build_listing_url(
    resource: Resource, without: Collection[str] = (), *, top: int | None = None
) -> str:
    """The first page of a plain listing, ``without`` some properties; ``top`` objects a page."""
    query = [_build_select(resource, without, children=False)] if resource.select else []
    if top or resource.page_size:
        query.append(f"$top={top or resource.page_size}")
    return f"{GRAPH_URL}{resource.path}{'?' if query else ''}{'&'.join(query)}"


def build_search_url(
    resource: Resource, without: Collection[str] = (), *, top: int | None = None
) -> str:
    """Sites by search: all that is left where the complete listing is refused."""
    size = f"&$top={top}" if top else ""
    return f"{GRAPH_URL}{SITE_SEARCH_PATH}&{_build_select(resource, without, children=False)}{size}"


def build_delta_url(
    resource: Resource, without: Collection[str] = (), *, top: int | None = None
) -> str:
    """The first page of a delta enumeration from the start."""
    size = f"&$top={top}" if top else ""
    return (
        f"{GRAPH_URL}{resource.delta_path}?{_build_select(resource, without, children=True)}{size}"
    )


def build_token_url(
    resource: Resource, without: Collection[str] = (), *, top: int | None = None
) -> str:
    """Asks for a delta link that starts now."""
    return f"{build_delta_url(resource, without, top=top)}&$deltatoken=latest"


def build_assignments_url(resource: Resource, role_definition_id: str) -> str:
    """The assignments of one role definition, where Graph demands the filter."""
    condition = quote(f"roleDefinitionId eq '{role_definition_id}'", safe="'")
    return f"{GRAPH_URL}{resource.path}?$filter={condition}"


def build_object_path(
    resource: Resource, identity: str, *, full: bool = False, without: Collection[str] = ()
) -> str:
    """One object by id: only whether it is there, or as a whole ``without`` some properties."""
    path = f"{VERSION}{resource.by_id.replace('{id}', quote(identity, safe=','))}"
    if not resource.select:
        return path
    return f"{path}?{_build_select(resource, without, children=False) if full else '$select=id'}"


def build_members_path(group_id: str, *, top: int | None = None) -> str:
    """The direct members of a group, ``top`` on a page."""
    return f"{VERSION}/groups/{group_id}/members?$select=id&$top={top or 999}"


def build_member_of_path(kind: str, identity: str) -> str:
    """The groups that a user or a group is a direct member of."""
    return f"{VERSION}/{kind}/{identity}/memberOf?$select=id&$top=999"
