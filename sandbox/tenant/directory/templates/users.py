"""Templates of users, as in a directory of a few years: members, guests, service accounts.

Users of one template differ only by their key, so that a user is a template with one text filled
in. In lists that are sorted later, items must differ before the key.
"""

from functools import cache
from random import Random

from sandbox.tenant.directory.templates.sample_names import (
    CITIES,
    COMPANIES,
    DEPARTMENTS,
    GIVEN_NAMES,
    JOBS,
    STREETS,
    SURNAMES,
    draw_time,
)
from sandbox.tenant.directory.templates.template import KEY_PLACEHOLDER, MakeTemplate, Props

SKUS = (
    "11111111-3e5c-4b7a-9d60-0f0000000001",
    "22222222-3e5c-4b7a-9d60-0f0000000002",
    "33333333-3e5c-4b7a-9d60-0f0000000003",
)
NEVER_CHANGED = "0001-01-01T00:00:00Z"


@cache
def user_template(domain: str) -> MakeTemplate:
    """Return the template maker for one tenant's users."""

    def make(rng: Random, object_id: str) -> Props:
        kind = rng.choices(("member", "guest", "service"), (86, 10, 4))[0]
        given, surname = rng.choice(GIVEN_NAMES), rng.choice(SURNAMES)
        props = _make_basic(rng, object_id, f"{given} {surname}", given, domain)
        if kind != "service":
            props |= {"givenName": given, "surname": surname}
        if kind == "guest":
            props |= _make_guest(rng, given, domain)
        elif kind == "member":
            props |= _make_member(rng, given, domain)
            if rng.random() < 0.5:
                props |= _make_on_premises(rng, surname, domain)
        # Last, so that everything else is drawn as before these properties were known.
        return props | _make_further(rng, props, domain)

    return make


def _make_further(rng: Random, props: Props, domain: str) -> Props:
    """Return what mirrors seldom ask for."""
    further: Props = {
        "isResourceAccount": rng.random() < 0.1,
        "securityIdentifier": f"S-1-12-1-{rng.randrange(10**9)}-{KEY_PLACEHOLDER}",
    }
    if rng.random() < 0.2:
        further["passwordPolicies"] = rng.choice(("DisablePasswordExpiration", "None", None))
    if props["userType"] == "Guest":
        further["creationType"] = "Invitation"
        further["externalUserStateChangeDateTime"] = draw_time(rng)
    if "department" in props and rng.random() < 0.4:
        further["employeeOrgData"] = {
            "division": rng.choice(DEPARTMENTS),
            "costCenter": rng.choice((None, f"{rng.randrange(100)}")),
        }
    if props.get("onPremisesSyncEnabled"):
        name = props["userPrincipalName"]
        further |= {
            "onPremisesDomainName": f"ad.{domain}",
            "onPremisesUserPrincipalName": name,
            "onPremisesExtensionAttributes": {
                f"extensionAttribute{n}": f"{rng.randrange(9)}" if n == 1 else None
                for n in range(1, 16)
            },
        }
    return further


def _build_local_part(given: str) -> str:
    """Return the part before the @, in ASCII."""
    letters = "".join(c for c in given.lower() if c.isascii() and c.isalpha())
    return f"{letters or 'user'}.{KEY_PLACEHOLDER}"


def _make_basic(rng: Random, object_id: str, name: str, given: str, domain: str) -> Props:
    return {
        "id": object_id,
        "userPrincipalName": f"{_build_local_part(given)}@{domain}",
        "displayName": name,
        "mailNickname": _build_local_part(given),
        "userType": "Member",
        "accountEnabled": rng.random() < 0.9,
        "createdDateTime": draw_time(rng),
        "businessPhones": [],
        "proxyAddresses": [],
        "otherMails": [],
        "assignedLicenses": [],
    }


def _make_guest(rng: Random, given: str, domain: str) -> Props:
    mail = f"{_build_local_part(given)}@partner.example"
    props: Props = {
        "userType": "Guest",
        "userPrincipalName": f"{mail.replace('@', '_')}#EXT#@{domain}",
        "mail": mail,
        "otherMails": [mail],
        "proxyAddresses": [f"SMTP:{mail}"],
        "externalUserState": rng.choice(("Accepted", "PendingAcceptance")),
        "lastPasswordChangeDateTime": NEVER_CHANGED,
    }
    if rng.random() < 0.5:
        props["companyName"] = rng.choice(COMPANIES)
    return props


def _make_member(rng: Random, given: str, domain: str) -> Props:
    city, state, country, code, language = rng.choice(CITIES)
    local = _build_local_part(given)
    props: Props = {
        "mail": f"{local}@{domain}",
        "jobTitle": rng.choice(JOBS),
        "department": rng.choice(DEPARTMENTS),
        "companyName": rng.choice(COMPANIES),
        "usageLocation": code,
        "preferredLanguage": language,
        "proxyAddresses": [
            f"smtp:{local}@mail.{domain}",
            f"SMTP:{local}@{domain}",
        ][rng.randrange(2) :],
        "lastPasswordChangeDateTime": NEVER_CHANGED if rng.random() < 0.03 else draw_time(rng),
        "businessPhones": [f"+46 8 {rng.randrange(100, 999)} {n}" for n in (20, 10)][
            : rng.randrange(3)
        ],
        "assignedLicenses": [
            {"disabledPlans": list(SKUS[2:]) if rng.random() < 0.2 else [], "skuId": sku}
            for sku in SKUS[: rng.randrange(3)]
        ],
    }
    optional: Props = {
        "officeLocation": f"{rng.randrange(1, 9)}/{rng.randrange(1000, 9999)}",
        "employeeId": f"E{KEY_PLACEHOLDER}",
        "employeeType": rng.choice(("Employee", "Contractor", "Intern")),
        "employeeHireDate": draw_time(rng),
        "mobilePhone": f"+46 70 {rng.randrange(1000000, 9999999)}",
        "city": city,
        "state": state,
        "country": country,
        "postalCode": f"{rng.randrange(10000, 99999)}",
        "streetAddress": f"{rng.choice(STREETS)} {rng.randrange(1, 200)}",
    }
    props |= {name: value for name, value in optional.items() if rng.random() < 0.66}
    if rng.random() < 0.1:
        props["otherMails"] = [f"home-{local}@post.example", f"alt-{local}@post.example"]
    return props


def _make_on_premises(rng: Random, surname: str, domain: str) -> Props:
    """Return the properties that Entra Connect adds to a user from on premises."""
    unit = rng.choice(DEPARTMENTS)
    path = ",".join(f"DC={part}" for part in domain.split("."))
    return {
        "onPremisesSyncEnabled": True,
        "onPremisesImmutableId": f"{rng.randrange(10**9):09d}{KEY_PLACEHOLDER}AA==",
        "onPremisesSamAccountName": f"c{rng.randrange(10)}{KEY_PLACEHOLDER}",
        "onPremisesDistinguishedName": f"CN={surname} {KEY_PLACEHOLDER},OU={unit},{path}",
        "onPremisesSecurityIdentifier": f"S-1-5-21-{rng.randrange(10**9)}-{rng.randrange(10**9)}"
        f"-{KEY_PLACEHOLDER}",
        "onPremisesLastSyncDateTime": draw_time(rng, 2026),
    }
