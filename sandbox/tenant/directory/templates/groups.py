"""Templates of groups: Microsoft 365, security, dynamic, and some from on premises."""

from functools import cache
from random import Random

from sandbox.tenant.directory.templates.sample_names import DEPARTMENTS, TEAMS, draw_time
from sandbox.tenant.directory.templates.template import KEY_PLACEHOLDER, MakeTemplate, Props
from sandbox.tenant.directory.templates.users import SKUS

HIDDEN_MEMBERSHIP = "HiddenMembership"


@cache
def group_template(domain: str, *, hidden: bool = True) -> MakeTemplate:
    """Return the template maker for one tenant's groups; if `hidden`, some hide memberships."""

    def make(rng: Random, object_id: str) -> Props:
        unified = rng.random() < 0.5
        name = f"{rng.choice(DEPARTMENTS)} {rng.choice(TEAMS)} {KEY_PLACEHOLDER}"
        props: Props = {
            "id": object_id,
            "displayName": name,
            "mailEnabled": unified,
            "securityEnabled": not unified or rng.random() < 0.2,
            "mailNickname": f"team{KEY_PLACEHOLDER}",
            "groupTypes": ["Unified"] if unified else [],
            "createdDateTime": draw_time(rng),
            "renewedDateTime": draw_time(rng),
            "proxyAddresses": [],
            "resourceProvisioningOptions": [],
            "securityIdentifier": "-".join(
                ("S-1-12-1", f"{rng.randrange(10**9)}", f"{rng.randrange(10**9)}", KEY_PLACEHOLDER)
            ),
        }
        props |= _make_microsoft_365(rng, domain) if unified else _make_security(rng)
        if not hidden and props.get("visibility") == HIDDEN_MEMBERSHIP:
            props["visibility"] = "Private"
        if rng.random() < 0.7:
            props["description"] = f"Everyone in {name}"
        if rng.random() < 0.15:
            props["groupTypes"] = [*props["groupTypes"], "DynamicMembership"]
            props["membershipRule"] = f'(user.department -eq "{rng.choice(DEPARTMENTS)}")'
            props["membershipRuleProcessingState"] = rng.choice(("On", "Paused"))
        # Last, so that everything else is drawn as before these properties were known.
        return props | _make_further(rng, props, domain)

    return make


def _make_further(rng: Random, props: Props, domain: str) -> Props:
    """Return what mirrors seldom ask for."""
    further: Props = {
        "assignedLicenses": [],
        "isManagementRestricted": rng.random() < 0.1,
        "resourceBehaviorOptions": ["WelcomeEmailDisabled", "HideGroupInOutlook"][
            : rng.randrange(3)
        ],
    }
    if rng.random() < 0.2:
        further["assignedLicenses"] = [{"disabledPlans": [], "skuId": rng.choice(SKUS)}]
    if rng.random() < 0.1:
        further["preferredDataLocation"] = rng.choice(("EUR", "NAM"))
    if props.get("onPremisesSyncEnabled"):
        further |= {
            "onPremisesSamAccountName": f"team{KEY_PLACEHOLDER}",
            "onPremisesDomainName": f"ad.{domain}",
            "onPremisesNetBiosName": domain.split(".", maxsplit=1)[0].upper(),
        }
    return further


def _make_microsoft_365(rng: Random, domain: str) -> Props:
    props: Props = {
        "mail": f"team{KEY_PLACEHOLDER}@{domain}",
        "visibility": rng.choice(("Public", "Private", HIDDEN_MEMBERSHIP)),
        "proxyAddresses": [
            f"smtp:team{KEY_PLACEHOLDER}@mail.{domain}",
            f"SMTP:team{KEY_PLACEHOLDER}@{domain}",
        ],
    }
    if rng.random() < 0.4:
        props["resourceProvisioningOptions"] = ["Team"]
    if rng.random() < 0.2:
        props["expirationDateTime"] = draw_time(rng, rng.choice((2027, 2299)))
    if rng.random() < 0.2:
        props["classification"] = rng.choice(("Internal", "Confidential"))
    return props


def _make_security(rng: Random) -> Props:
    props: Props = {}
    if rng.random() < 0.2:
        props["isAssignableToRole"] = True
    if rng.random() < 0.4:
        props["onPremisesSyncEnabled"] = True
        props["onPremisesSecurityIdentifier"] = f"S-1-5-21-{rng.randrange(10**9)}-{KEY_PLACEHOLDER}"
    return props
