"""Sites, with the unevenness of SharePoint's answers.

Some GUIDs are in upper case, some collections spell `hostName`, many sites lack a display name or
their dates.
"""

from random import Random

from sandbox.tenant.ids import guid_from
from sandbox.tenant.people import moment
from sandbox.tenant.shelf import SLOT, MakeTemplate, Props
from sandbox.tenant.words import TEAMS


def make_site(domain: str) -> MakeTemplate:
    """The template maker for one tenant's sites."""
    company = domain.split(".", maxsplit=1)[0]

    def make(rng: Random, web_id: str) -> Props:
        personal = rng.random() < 0.2
        host = f"{company}-my.sharepoint.example" if personal else f"{company}.sharepoint.example"
        collection_id = guid_from(rng.random())
        if rng.random() < 0.3:
            collection_id, web_id = collection_id.upper(), web_id.upper()
        collection: Props = {rng.choice(("hostName", "hostname")): host}
        if rng.random() < 0.3:
            collection["dataLocationCode"] = rng.choice(("EUR", "NAM", "APC"))
        name = f"{rng.choice(TEAMS)}-{SLOT}"
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
        return props | _optional(rng, name)

    return make


def _optional(rng: Random, name: str) -> Props:
    props: Props = {}
    if rng.random() < 0.8:
        props["displayName"] = f"Site {name}"
    if rng.random() < 0.3:
        props["description"] = rng.choice(("", "Plans and minutes"))
    if rng.random() < 0.8:
        props["createdDateTime"] = moment(rng, rng.choice((2019, 2024)))
        props["lastModifiedDateTime"] = moment(rng, 2026)
    return props
