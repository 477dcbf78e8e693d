"""Templates of sites, with the irregularities of SharePoint's responses.

Some GUIDs are in upper case, some collections write `hostName`, many sites lack a display name or
dates.
"""

from functools import cache
from random import Random

from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.templates.sample_names import TEAMS, draw_time
from sandbox.tenant.directory.templates.template import KEY_PLACEHOLDER, MakeTemplate, Props


@cache
def site_template(domain: str) -> MakeTemplate:
    """Return the template maker for one tenant's sites."""
    company = domain.split(".", maxsplit=1)[0]

    def make(rng: Random, web_id: str) -> Props:
        personal = rng.random() < 0.2
        host = f"{company}-my.sharepoint.example" if personal else f"{company}.sharepoint.example"
        collection_id = guid_from_parts(rng.random())
        if rng.random() < 0.3:
            collection_id, web_id = collection_id.upper(), web_id.upper()
        collection: Props = {rng.choice(("hostName", "hostname")): host}
        if rng.random() < 0.3:
            collection["dataLocationCode"] = rng.choice(("EUR", "NAM", "APC"))
        name = f"{rng.choice(TEAMS)}-{KEY_PLACEHOLDER}"
        folder = "personal" if personal else "sites"
        props: Props = {
            "id": f"{host},{collection_id},{web_id}",
            "name": name,
            "webUrl": f"https://{host}/{folder}/{name}",
            "siteCollection": collection,
        }
        if personal or rng.random() < 0.7:
            props["isPersonalSite"] = personal
        if rng.random() < 0.6:
            props["root"] = {}
        return props | _make_optional(rng, name)

    return make


def _make_optional(rng: Random, name: str) -> Props:
    props: Props = {}
    if rng.random() < 0.8:
        props["displayName"] = f"Site {name}"
    if rng.random() < 0.3:
        props["description"] = rng.choice(("", "Plans and minutes"))
    if rng.random() < 0.8:
        props["createdDateTime"] = draw_time(rng, rng.choice((2019, 2024)))
        props["lastModifiedDateTime"] = draw_time(rng, 2026)
    return props
