"""Groups: Microsoft 365 groups, security groups, dynamic ones, and some from on premises."""

from random import Random

from sandbox.tenant.people import moment
from sandbox.tenant.shelf import SLOT, MakeTemplate, Props
from sandbox.tenant.words import DEPARTMENTS, TEAMS

HIDDEN = "HiddenMembership"


def make_group(domain: str, *, hidden: bool = True) -> MakeTemplate:
    """The template maker for one tenant's groups; some have hidden memberships, or none."""

    def make(rng: Random, object_id: str) -> Props:
        unified = rng.random() < 0.5
        name = f"{rng.choice(DEPARTMENTS)} {rng.choice(TEAMS)} {SLOT}"
        props: Props = {
            "id": object_id,
            "displayName": name,
            "mailEnabled": unified,
            "securityEnabled": not unified or rng.random() < 0.2,
            "mailNickname": f"team{SLOT}",
            "groupTypes": ["Unified"] if unified else [],
            "createdDateTime": moment(rng),
            "renewedDateTime": moment(rng),
            "proxyAddresses": [],
            "resourceProvisioningOptions": [],
            "securityIdentifier": f"S-1-12-1-{rng.randrange(10**9)}-{rng.randrange(10**9)}-{SLOT}",
        }
        props |= _unified(rng, domain) if unified else _security(rng)
        if not hidden and props.get("visibility") == HIDDEN:
            props["visibility"] = "Private"
        if rng.random() < 0.7:
            props["description"] = f"Everyone in {name}"
        if rng.random() < 0.15:
            props["groupTypes"] = [*props["groupTypes"], "DynamicMembership"]
            props["membershipRule"] = f'(user.department -eq "{rng.choice(DEPARTMENTS)}")'
            props["membershipRuleProcessingState"] = rng.choice(("On", "Paused"))
        return props

    return make


def _unified(rng: Random, domain: str) -> Props:
    props: Props = {
        "mail": f"team{SLOT}@{domain}",
        "visibility": rng.choice(("Public", "Private", HIDDEN)),
        "proxyAddresses": [f"smtp:team{SLOT}@mail.{domain}", f"SMTP:team{SLOT}@{domain}"],
    }
    if rng.random() < 0.4:
        props["resourceProvisioningOptions"] = ["Team"]
    if rng.random() < 0.2:
        props["expirationDateTime"] = moment(rng, rng.choice((2027, 2299)))
    if rng.random() < 0.2:
        props["classification"] = rng.choice(("Internal", "Confidential"))
    return props


def _security(rng: Random) -> Props:
    props: Props = {}
    if rng.random() < 0.2:
        props["isAssignableToRole"] = True
    if rng.random() < 0.4:
        props["onPremisesSyncEnabled"] = True
        props["onPremisesSecurityIdentifier"] = f"S-1-5-21-{rng.randrange(10**9)}-{SLOT}"
    return props
