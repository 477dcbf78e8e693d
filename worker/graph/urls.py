"""Builds the first URLs of walks and the paths of single reads, from the registry."""

from collections.abc import Collection
from typing import Final
from urllib.parse import quote

from models.resource import Resource
from models.source import Source
from worker.graph.links import VERSION

GRAPH_HOST: Final = "https://graph.microsoft.com"
GRAPH_URL: Final = f"{GRAPH_HOST}{VERSION}"
ORGANIZATION_PATH: Final = f"{VERSION}/organization?$select=id,displayName"


def _build_select(resource: Resource, without: Collection[str], *, relations: bool) -> str:
    left_out = {*without} if relations else {*without, *resource.relations}
    names = [name for name in resource.selected if name not in left_out]
    return f"$select={','.join(names)}"


def build_listing_url(
    resource: Resource,
    without: Collection[str] = (),
    *,
    source: Source | None = None,
    top: int | None = None,
) -> str:
    """Return the first URL of a list, by the plain source unless told; ``top`` objects a page."""
    source = source or resource.source
    query = [_build_select(resource, without, relations=False)] if source.select else []
    query += [f"$expand={one}" for one in resource.expands]
    if top or source.page_size:
        query.append(f"$top={top or source.page_size}")
    joint = "&" if "?" in source.path else "?"
    return f"{GRAPH_URL}{source.path}{joint if query else ''}{'&'.join(query)}"


def build_below_url(
    resource: Resource, parent: str, without: Collection[str] = (), *, top: int | None = None
) -> str:
    """Return the first URL of the list below one object of another resource."""
    return build_listing_url(resource, without, top=top).replace("{parent}", quote(parent))


def build_delta_url(
    resource: Resource, without: Collection[str] = (), *, top: int | None = None
) -> str:
    """Return the first URL of a delta walk from the start."""
    size = f"&$top={top}" if top else ""
    select = _build_select(resource, without, relations=True)
    return f"{GRAPH_URL}{resource.source.delta_path}?{select}{size}"


def build_token_url(
    resource: Resource, without: Collection[str] = (), *, top: int | None = None
) -> str:
    """Return the URL that asks for a delta link from now on."""
    return f"{build_delta_url(resource, without, top=top)}&$deltatoken=latest"


def build_filtered_url(resource: Resource, part: str) -> str:
    """Return the URL of the objects whose partition property holds an id."""
    assert resource.partition is not None, "only a partitioned resource is read in parts"
    condition = quote(f"{resource.partition.graph_name} eq '{part}'", safe="'")
    return f"{GRAPH_URL}{resource.source.path}?$filter={condition}"


def build_object_path(
    resource: Resource, *address: str, full: bool = False, without: Collection[str] = ()
) -> str:
    """Return the path of one object: with its id only, or ``full`` with all properties.

    ``address`` has the values of the columns that ``Resource.address`` names.
    """
    values = {
        name: quote(one, safe=",") for name, one in zip(resource.address, address, strict=True)
    }
    path = f"{VERSION}{resource.by_id.format_map(values)}"
    if not resource.source.select:
        return path
    if not full:
        return f"{path}?$select=id"
    query = [_build_select(resource, without, relations=False)]
    query += [f"$expand={one}" for one in resource.expands]
    return f"{path}?{'&'.join(query)}"


def build_members_path(edge: Resource, parent_id: str, *, top: int | None = None) -> str:
    """Return the path of the direct members of an edge's parent; ``top`` a page."""
    path = edge.source.path.replace("{id}", parent_id)
    return f"{VERSION}{path}?$select=id&$top={top or edge.source.page_size}"


def build_member_of_path(edge: Resource, members: Resource, identity: str) -> str:
    """Return the path of the parents that an object is a direct member of."""
    assert edge.edge is not None, "only edges have members"
    path = edge.edge.member_of.replace("{members}", members.name).replace("{id}", identity)
    return f"{VERSION}{path}?$select=id&$top=999"
