"""Which properties each resource has: what is generated, returned by default, or refused.

Lists and their defaults follow Graph's v1.0 reference. Names that Graph knows but that these
tenants never set are accepted in a `$select` and stay null.
"""

from typing import NamedTuple

from sandbox.tenant.errors import GraphError

MEMBERS = "members"


def split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def unknown_property(name: str, type_name: str) -> GraphError:
    return GraphError(
        400,
        "BadRequest",
        "Parsing OData Select and Expand failed: Could not find a property named "
        f"'{name}' on type 'microsoft.graph.{type_name}'.",
    )


class Fields(NamedTuple):
    """The properties of one resource; bit n of a select mask is `known[n]`."""

    resource: str
    type_name: str
    names: tuple[str, ...]
    default: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        return self.names + self.unset

    def mask(self, select: str | None) -> int:
        """The mask of a `$select`; 0 means that there was none."""
        if not select:
            return 0
        mask = 0
        known = self.known
        for name in select.split(","):
            if name in self.refused:
                raise GraphError(501, "NotImplemented", f"'{name}' is for single objects only.")
            if name not in known:
                raise unknown_property(name, self.type_name)
            mask |= 1 << known.index(name)
        return mask

    def selected(self, mask: int) -> tuple[str, ...]:
        return tuple(name for bit, name in enumerate(self.known) if mask >> bit & 1)


USERS = Fields(
    "users",
    "user",
    names=split(
        "id userPrincipalName displayName givenName surname mail mailNickname jobTitle "
        "department companyName officeLocation employeeId employeeType employeeHireDate "
        "userType accountEnabled createdDateTime businessPhones mobilePhone city state country "
        "postalCode streetAddress usageLocation preferredLanguage proxyAddresses otherMails "
        "onPremisesSyncEnabled onPremisesImmutableId onPremisesSamAccountName "
        "onPremisesDistinguishedName onPremisesSecurityIdentifier onPremisesLastSyncDateTime "
        "externalUserState lastPasswordChangeDateTime assignedLicenses"
    ),
    default=split(
        "businessPhones displayName givenName jobTitle mail mobilePhone officeLocation "
        "preferredLanguage surname userPrincipalName id"
    ),
    unset=split(
        "deletedDateTime ageGroup consentProvidedForMinor faxNumber "
        "externalUserStateChangeDateTime onPremisesDomainName onPremisesUserPrincipalName "
        "showInAddressList creationType"
    ),
    refused=split(
        "aboutMe birthday hireDate interests mySite pastProjects preferredName "
        "responsibilities schools skills mailboxSettings"
    ),
)

GROUPS = Fields(
    "groups",
    "group",
    names=split(
        "id displayName description mail mailNickname mailEnabled securityEnabled groupTypes "
        "visibility isAssignableToRole membershipRule membershipRuleProcessingState "
        "createdDateTime renewedDateTime expirationDateTime classification proxyAddresses "
        "onPremisesSyncEnabled onPremisesSecurityIdentifier resourceProvisioningOptions "
        "securityIdentifier"
    ),
    unset=(
        MEMBERS,
        *split(
            "deletedDateTime onPremisesLastSyncDateTime onPremisesSamAccountName theme "
            "preferredLanguage preferredDataLocation"
        ),
    ),
)

SITES = Fields(
    "sites",
    "site",
    names=split(
        "id displayName name description webUrl isPersonalSite root siteCollection "
        "createdDateTime lastModifiedDateTime"
    ),
    unset=("eTag", "sharepointIds", "parentReference", "createdBy", "lastModifiedBy"),
)

ROLE_DEFINITIONS = Fields(
    "role_definitions",
    "unifiedRoleDefinition",
    names=split(
        "id displayName description isBuiltIn isEnabled templateId version resourceScopes "
        "rolePermissions"
    ),
    unset=("inheritsPermissionsFrom",),
)

ROLE_ASSIGNMENTS = Fields(
    "role_assignments",
    "unifiedRoleAssignment",
    names=split(
        "id principalId roleDefinitionId directoryScopeId appScopeId condition "
        "principalOrganizationId"
    ),
)

ALL = {f.resource: f for f in (USERS, GROUPS, SITES, ROLE_DEFINITIONS, ROLE_ASSIGNMENTS)}
RESOURCES = (
    "users",
    "groups",
    "group_members",
    "sites",
    "role_definitions",
    "role_assignments",
)
