"""The properties of each resource: generated, returned by default, or refused.

Lists and their defaults follow Graph's v1.0 reference. Names that Graph knows but these tenants
never set are accepted in a `$select` and stay null.
"""

from typing import NamedTuple

from sandbox.tenant.errors import GraphError, build_unknown_property

MEMBERS = "members"


def split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


class ResourceFields(NamedTuple):
    """The properties of one resource; bit n of a select mask is `known[n]`."""

    resource: str
    type_name: str
    generated: tuple[str, ...]
    default_names: tuple[str, ...] = ()
    never_set: tuple[str, ...] = ()
    unselectable: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        return self.generated + self.never_set

    def parse_select(self, select: str | None) -> int:
        """Return the mask of a `$select`; 0 if there was none."""
        if not select:
            return 0
        mask = 0
        known = self.known
        for name in select.split(","):
            if name in self.unselectable:
                raise GraphError(501, "NotImplemented", f"'{name}' is for single objects only.")
            if name not in known:
                raise build_unknown_property(name, self.type_name)
            mask |= 1 << known.index(name)
        return mask

    def select_names(self, mask: int) -> tuple[str, ...]:
        return tuple(name for bit, name in enumerate(self.known) if mask >> bit & 1)


USERS = ResourceFields(
    "users",
    "user",
    generated=split(
        "id userPrincipalName displayName givenName surname mail mailNickname jobTitle "
        "department companyName officeLocation employeeId employeeType employeeHireDate "
        "userType accountEnabled createdDateTime businessPhones mobilePhone city state country "
        "postalCode streetAddress usageLocation preferredLanguage proxyAddresses otherMails "
        "onPremisesSyncEnabled onPremisesImmutableId onPremisesSamAccountName "
        "onPremisesDistinguishedName onPremisesSecurityIdentifier onPremisesLastSyncDateTime "
        "externalUserState lastPasswordChangeDateTime assignedLicenses"
    ),
    default_names=split(
        "businessPhones displayName givenName jobTitle mail mobilePhone officeLocation "
        "preferredLanguage surname userPrincipalName id"
    ),
    never_set=split(
        "deletedDateTime ageGroup consentProvidedForMinor faxNumber "
        "externalUserStateChangeDateTime onPremisesDomainName onPremisesUserPrincipalName "
        "showInAddressList creationType"
    ),
    unselectable=split(
        "aboutMe birthday hireDate interests mySite pastProjects preferredName "
        "responsibilities schools skills mailboxSettings"
    ),
)

GROUPS = ResourceFields(
    "groups",
    "group",
    generated=split(
        "id displayName description mail mailNickname mailEnabled securityEnabled groupTypes "
        "visibility isAssignableToRole membershipRule membershipRuleProcessingState "
        "createdDateTime renewedDateTime expirationDateTime classification proxyAddresses "
        "onPremisesSyncEnabled onPremisesSecurityIdentifier resourceProvisioningOptions "
        "securityIdentifier"
    ),
    never_set=(
        MEMBERS,
        *split(
            "deletedDateTime onPremisesLastSyncDateTime onPremisesSamAccountName theme "
            "preferredLanguage preferredDataLocation"
        ),
    ),
)

SITES = ResourceFields(
    "sites",
    "site",
    generated=split(
        "id displayName name description webUrl isPersonalSite root siteCollection "
        "createdDateTime lastModifiedDateTime"
    ),
    never_set=("eTag", "sharepointIds", "parentReference", "createdBy", "lastModifiedBy"),
)

ROLE_DEFINITIONS = ResourceFields(
    "role_definitions",
    "unifiedRoleDefinition",
    generated=split(
        "id displayName description isBuiltIn isEnabled templateId version resourceScopes "
        "rolePermissions"
    ),
    never_set=("inheritsPermissionsFrom",),
)

ROLE_ASSIGNMENTS = ResourceFields(
    "role_assignments",
    "unifiedRoleAssignment",
    generated=split(
        "id principalId roleDefinitionId directoryScopeId appScopeId condition "
        "principalOrganizationId"
    ),
)

FIELDS = {f.resource: f for f in (USERS, GROUPS, SITES, ROLE_DEFINITIONS, ROLE_ASSIGNMENTS)}
RESOURCES = (
    "users",
    "groups",
    "group_members",
    "sites",
    "role_definitions",
    "role_assignments",
)
