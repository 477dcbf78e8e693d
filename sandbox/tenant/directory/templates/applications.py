"""Service principals, what they may do, and who may use them.

Credentials carry what no mirror may keep: a consumer that stores or prints one of `SECRET_MARKS`
has a leak.
"""

import base64
from random import Random

from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.templates.sample_names import COMPANIES, DEPARTMENTS, TEAMS, draw_time
from sandbox.tenant.directory.templates.template import Props

MICROSOFT = "f8cdef31-a31e-4b4a-93e4-5f571e91255a"
"""The tenant that owns Microsoft's applications."""
GRAPH = "00000003-0000-0000-c000-000000000000"
"""The application id of Microsoft Graph."""
NO_ROLE = "00000000-0000-0000-0000-000000000000"
"""The app role of an application that has none."""
_FIRST_PARTY = (
    # name, application id
    ("Microsoft Graph", GRAPH),
    ("Windows Azure Active Directory", "00000002-0000-0000-c000-000000000000"),
    ("Office 365 Exchange Online", "00000002-0000-0ff1-ce00-000000000000"),
    ("Office 365 SharePoint Online", "00000003-0000-0ff1-ce00-000000000000"),
    ("Skype for Business Online", "00000004-0000-0ff1-ce00-000000000000"),
    ("Microsoft Teams", "1fec8e78-bce4-4aaf-ab1b-5451cc387264"),
    ("Windows Azure Service Management API", "797f4846-ba00-4fd7-ba43-dac1f8f63013"),
    ("Azure Portal", "c44b4083-3bb0-49c1-b47d-974e53cbdf3c"),
)
GRAPH_ROLES = {
    "Directory.Read.All": "7ab1d382-f21e-4acd-a863-ba3e13f7da61",
    "User.Read.All": "df021288-bdef-4463-88db-98f22de89214",
    "Group.Read.All": "5b567255-7703-4780-807c-7be8301ae99b",
    "AuditLog.Read.All": "b0afded3-3588-46d8-8b3d-9842eff778da",
    "Mail.Read": "810c84a8-4a9e-49e6-bf7d-12d183f40d01",
    "Sites.Read.All": "332a536c-c7ef-4017-ab91-336970924f0d",
    "Directory.ReadWrite.All": "19dbc75e-c2e2-444c-a770-ec69d8559fc7",
    "Application.ReadWrite.All": "1bfefb4e-e0b5-418b-a88f-73c46d2cc8e9",
    "AppRoleAssignment.ReadWrite.All": "06b708a9-e830-4db3-a914-8e69da51d44f",
    "RoleManagement.ReadWrite.Directory": "9e3f62cf-ca93-4989-b6ce-bf83c28f9fe8",
}
"""Microsoft Graph's application permissions, by name."""
SCOPES = (
    "User.Read",
    "openid",
    "profile",
    "email",
    "offline_access",
    "Mail.Read",
    "Files.Read.All",
)

_SECRET, _HINT, _KEY = "leaked-secret-text", "leaked-hint", "leaked-key"
SECRET_MARKS = (_SECRET, _HINT, base64.b64encode(_KEY.encode()).decode())
"""Texts that appear in credentials, and nowhere else."""


def make_app_role(value: str, role_id: str, kind: str = "Application") -> Props:
    return {
        "id": role_id,
        "value": value,
        "displayName": f"Use {value}",
        "description": f"Allows to use {value}.",
        "allowedMemberTypes": [kind],
        "isEnabled": True,
        "origin": "Application",
    }


def make_password(rng: Random, name: str | None = None, *, ends: str = "") -> Props:
    """Return a client secret as Graph shows it, with what must not be kept."""
    return {
        "customKeyIdentifier": SECRET_MARKS[2],
        "displayName": name or f"secret {rng.randrange(100)}",
        "endDateTime": ends or draw_time(rng, 2027),
        "hint": _HINT,
        "keyId": guid_from_parts("password", rng.random()),
        "secretText": _SECRET,
        "startDateTime": draw_time(rng, 2025),
    }


def make_key(rng: Random, name: str | None = None) -> Props:
    """Return a certificate as Graph shows it, with what must not be kept."""
    return {
        "customKeyIdentifier": SECRET_MARKS[2],
        "displayName": name or f"CN=certificate {rng.randrange(100)}",
        "endDateTime": draw_time(rng, 2027),
        "key": SECRET_MARKS[2],
        "keyId": guid_from_parts("key", rng.random()),
        "startDateTime": draw_time(rng, 2025),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
    }


def make_service_principal(seed: int, number: int, tenant_id: str) -> Props:
    """Return one: two thirds are Microsoft's, the others are the customer's own, or foreign."""
    rng = Random(f"{seed}/service principal/{number}")
    props: Props = {
        "id": guid_from_parts(seed, "service principal", number),
        "servicePrincipalType": "Application",
        "accountEnabled": True,
        "appRoleAssignmentRequired": False,
        "appRoles": [],
        "keyCredentials": [],
        "passwordCredentials": [],
        "verifiedPublisher": {
            "displayName": None,
            "verifiedPublisherId": None,
            "addedDateTime": None,
        },
    }
    if number < len(_FIRST_PARTY) or number % 3:
        return props | _make_first_party(number)
    return props | _make_third_party(rng, number, tenant_id)


def _make_first_party(number: int) -> Props:
    if number < len(_FIRST_PARTY):
        name, app_id = _FIRST_PARTY[number]
    else:
        name, app_id = f"Microsoft Service {number}", guid_from_parts("first party", number)
    props: Props = {
        "appId": app_id,
        "displayName": name,
        "appOwnerOrganizationId": MICROSOFT,
        "signInAudience": "AzureADMultipleOrgs",
        "tags": [],
    }
    if app_id == GRAPH:
        props["appRoles"] = [make_app_role(value, one) for value, one in GRAPH_ROLES.items()]
    return props


def _make_third_party(rng: Random, number: int, tenant_id: str) -> Props:
    kind = rng.choices(("own", "foreign", "managed"), (5, 3, 2))[0]
    team = rng.choice(TEAMS)
    if kind == "managed":
        return {
            "appId": guid_from_parts(tenant_id, "managed", number),
            "displayName": f"vm-{team.lower()}-{number}",
            "servicePrincipalType": "ManagedIdentity",
            "keyCredentials": [make_key(rng)],
            "tags": [],
        }
    foreign = kind == "foreign"
    props: Props = {
        "appId": guid_from_parts("foreign" if foreign else tenant_id, "application", number),
        "displayName": f"{team} for {rng.choice(DEPARTMENTS)} {number}",
        "appOwnerOrganizationId": guid_from_parts("isv", rng.choice(COMPANIES))
        if foreign
        else tenant_id,
        "signInAudience": "AzureADMultipleOrgs" if foreign else "AzureADMyOrg",
        "appRoleAssignmentRequired": rng.random() < 0.5,
        "tags": ["WindowsAzureActiveDirectoryIntegratedApp", "HideApp"][: rng.randrange(3)],
        "appRoles": [
            make_app_role(f"{value}.{number}", guid_from_parts("role", number, value), "User")
            for value in ("Reader", "Writer")[: rng.randrange(3)]
        ],
        "passwordCredentials": [make_password(rng) for _ in range(rng.randrange(3))],
        "keyCredentials": [make_key(rng) for _ in range(rng.randrange(2))],
    }
    if foreign and rng.random() < 0.5:
        props["verifiedPublisher"] = {
            "displayName": rng.choice(COMPANIES),
            "verifiedPublisherId": f"{rng.randrange(10**7)}",
            "addedDateTime": draw_time(rng),
        }
    if rng.random() < 0.1:
        props |= {
            "accountEnabled": False,
            "disabledByMicrosoftStatus": rng.choice(
                ("DisabledDueToViolationOfServicesAgreement", None)
            ),
        }
    return props


def make_application(seed: int, number: int, domain: str, principal: Props | None = None) -> Props:
    """Return the registration of a service principal of the customer, or of none."""
    rng = Random(f"{seed}/application/{number}")
    own: Props = principal or {
        "appId": guid_from_parts(seed, "application id", number),
        "displayName": f"{rng.choice(TEAMS)} {number}",
        "passwordCredentials": [make_password(rng)],
        "keyCredentials": [make_key(rng)],
        "appRoles": [],
    }
    copied = ("appId", "displayName", "passwordCredentials", "keyCredentials", "appRoles")
    return {
        "id": guid_from_parts(seed, "application", number),
        **{name: own[name] for name in copied},
        "signInAudience": "AzureADMyOrg",
        "publisherDomain": domain,
        "createdDateTime": draw_time(rng),
        "tags": [],
        "identifierUris": [f"api://{own['appId']}"],
        "requiredResourceAccess": [
            {"resourceAppId": GRAPH, "resourceAccess": [{"id": one, "type": "Role"}]}
            for one in rng.sample(tuple(GRAPH_ROLES.values()), rng.randrange(3))
        ],
    }


def make_app_role_assignment(
    principal: Props, principal_type: str, resource: Props, role_id: str, created: str
) -> Props:
    """Return an assignment. Its id depends on the other ids only."""
    return {
        "id": _build_id(principal["id"], resource["id"], role_id),
        "principalId": principal["id"],
        "principalType": principal_type,
        "principalDisplayName": principal.get("displayName"),
        "resourceId": resource["id"],
        "resourceDisplayName": resource.get("displayName"),
        "appRoleId": role_id,
        "createdDateTime": created,
    }


def make_grant(client_id: str, resource_id: str, scope: str, principal_id: str | None) -> Props:
    """Return a consent for one user, or for all if there is no principal."""
    return {
        "id": _build_id(client_id, resource_id, principal_id),
        "clientId": client_id,
        "consentType": "Principal" if principal_id else "AllPrincipals",
        "principalId": principal_id,
        "resourceId": resource_id,
        "scope": scope,
    }


def _build_id(*parts: object) -> str:
    """Return an opaque text of 43 characters, in which the case of letters counts."""
    raw = "".join(guid_from_parts(*parts, half).replace("-", "") for half in (1, 2))
    return base64.urlsafe_b64encode(bytes.fromhex(raw)).decode().rstrip("=")
