"""SharePoint sites, keyed by the web GUID. https://learn.microsoft.com/graph/api/resources/site

Graph's own id is ``host,site-collection GUID,web GUID``, but its delta was observed to return the
bare web GUID; only the web GUID is stable.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET

from models.property import boolean, facet, guid, text, timestamp
from models.resource import Resource
from models.source import Fallback, Mode, Source


class SiteCollection(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """The location of a site; Graph names the host property in two ways."""

    hostname: str | None = None
    host_name: str | None = None
    data_location_code: str | None = None


def derive_columns(site: Any) -> Mapping[str, object]:
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


SITES: Final = Resource(
    name="sites",
    meaning="SharePoint sites and OneDrive personal sites",
    graph_type="site",
    permission="Sites.Read.All",
    by_id="/sites/{composite_id}",
    service="sharepoint",
    source=Source(path="/sites/getAllSites", intervals=("sites_seconds",)),
    fallbacks=(
        Fallback(
            statuses=frozenset({400, 403, 404, 501}),
            source=Source(
                mode=Mode.SEARCH,
                path="/sites?search=*",
                intervals=("sites_seconds",),
                best_effort="the complete list of sites is refused; sites are found by search",
            ),
        ),
    ),
    derive=derive_columns,
    event_noun="site",
    labels=("display_name", "name"),
    erasable=True,
    properties=(
        guid("id", "GUID of the web", key=True),
        text(
            "composite_id",
            "host,site-collection GUID,web GUID: Graph's own id",
            derived=True,
            identifies=True,
        ),
        guid("site_collection_id", "GUID of the site collection", derived=True),
        text("hostname", "host of the site's address", derived=True),
        text("display_name", "title", identifies=True),
        text("name", "last part of the address", identifies=True),
        text("description", "description", personal=True),
        text("web_url", "address in a browser", identifies=True),
        boolean("is_personal_site", "whether it is a person's OneDrive"),
        facet("root", dict[str, Any], "present on the root site of a site collection"),
        boolean(
            "is_root",
            "whether it is the root site of its site collection",
            derived=True,
            derived_from=("root",),
        ),
        facet("site_collection", SiteCollection, "host and location of the data"),
        text(
            "data_location_code",
            "location of the data in a multi-geo tenant",
            derived=True,
            derived_from=("site_collection",),
        ),
        timestamp("created_date_time", "when it was created"),
        timestamp("last_modified_date_time", "when it was last modified"),
    ),
)
