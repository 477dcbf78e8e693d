"""SharePoint sites, keyed by the web GUID. https://learn.microsoft.com/graph/api/resources/site

Graph's own id is ``host,site-collection GUID,web GUID``, but its delta was observed to return the
bare web GUID; only the web GUID is stable.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET
from sqlalchemy import Boolean, Column, DateTime, Text, Uuid

from models.record import Record, Sent, Timestamp
from models.resource import Clock, Kind, Resource, guid_key, mirror_table


class SiteCollection(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """The location of a site; Graph names the host property in two ways."""

    hostname: str | None = None
    host_name: str | None = None
    data_location_code: str | None = None


class Site(Record, frozen=True, kw_only=True, gc=False):
    display_name: Sent[str] = UNSET
    name: Sent[str] = UNSET
    description: Sent[str] = UNSET
    web_url: Sent[str] = UNSET
    is_personal_site: Sent[bool] = UNSET
    root: Sent[dict[str, Any]] = UNSET
    site_collection: Sent[SiteCollection] = UNSET
    created_date_time: Sent[Timestamp] = UNSET
    last_modified_date_time: Sent[Timestamp] = UNSET


def site_columns(site: Site) -> Mapping[str, object]:
    """Return the columns that come from the composite id and the nested facets."""
    parts = site.id.split(",")
    composite = len(parts) == 3
    place = site.site_collection or SiteCollection()
    host = place.hostname or place.host_name or (parts[0] if composite else None)
    return {
        "id": parts[-1],
        "composite_id": site.id if composite else None,
        "site_collection_id": parts[1] if composite else None,
        "hostname": host,
        "is_root": site.root is not UNSET and site.root is not None,
        "data_location_code": place.data_location_code,
    }


sites = mirror_table(
    "sites",
    guid_key("id"),
    Column("composite_id", Text, comment="host,site-collection GUID,web GUID: Graph's own id"),
    Column("site_collection_id", Uuid(as_uuid=False)),
    Column("hostname", Text),
    Column("display_name", Text),
    Column("name", Text),
    Column("description", Text),
    Column("web_url", Text),
    Column("is_personal_site", Boolean),
    Column("is_root", Boolean),
    Column("data_location_code", Text),
    Column("created_date_time", DateTime(timezone=True)),
    Column("last_modified_date_time", DateTime(timezone=True)),
    comment="SharePoint sites and OneDrive personal sites",
)

SITES = Resource(
    name="sites",
    kind=Kind.SNAPSHOT,
    table=sites,
    record=Site,
    path="/sites/getAllSites",
    by_id="/sites/{id}",
    address="composite_id",
    permission="Sites.Read.All",
    clock=Clock(interval=6 * 3600),
    event_noun="site",
    derive=site_columns,
    derived_from={"root": ("is_root",), "siteCollection": ("data_location_code",)},
)
