"""The properties of each resource: generated, returned by default, or refused.

Generated are the properties that the mirror's declarations name. Defaults follow Graph's v1.0
reference. Names that Graph knows but these tenants never set are accepted in a `$select` and stay
null.
"""

from typing import NamedTuple

from models.resource import Resource
from models.resources import RESOURCES, STREAMED
from sandbox.tenant.errors import GraphError, build_unknown_property

MEMBERS, OWNERS, MANAGER = "members", "owners", "manager"


def split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


class ResourceFields(NamedTuple):
    """The paths and properties of one resource; bit n of a select mask is `known[n]`."""

    resource: str
    type_name: str
    path: str
    """Path of the list, relative to the version."""
    generated: tuple[str, ...]
    delta_path: str = ""
    """Path of the delta function; empty if there is none."""
    object_path: str = ""
    """The path before the id of one object."""
    permission: str = ""
    """The least privileged permission, which some refusals name."""
    relations: tuple[str, ...] = ()
    """Names of properties that hold edges: never shown with an object's properties."""
    default_names: tuple[str, ...] = ()
    further: tuple[str, ...] = ()
    """Properties with values that some mirrors do not ask for."""
    never_set: tuple[str, ...] = ()
    unselectable: tuple[str, ...] = ()
    shows_unset: bool = True
    """Whether lists show unset properties as null; SharePoint leaves them out."""

    @property
    def known(self) -> tuple[str, ...]:
        """All names. None moves when the mirror begins to ask for it: tokens hold their places."""
        first = (name for name in self.generated if name not in self.further)
        return (*first, *self.relations, *self.further, *self.never_set)

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

    def choose_names(self, mask: int) -> tuple[str, ...]:
        """Return the properties to show: those selected, or the default ones; no relations."""
        names = self.select_names(mask) if mask else self.default_names or self.generated
        return tuple(name for name in names if name not in self.relations)

    def has_relation(self, mask: int, relation: str) -> bool:
        """Whether a delta brings a relation: if selected, and members if nothing is selected."""
        if relation not in self.relations:
            return False
        return bool(mask >> self.known.index(relation) & 1) if mask else relation == MEMBERS


def build_fields(
    declared: Resource,
    *,
    relations: tuple[str, ...] = (),
    default_names: tuple[str, ...] = (),
    further: tuple[str, ...] = (),
    never_set: tuple[str, ...] = (),
    unselectable: tuple[str, ...] = (),
) -> ResourceFields:
    """Return the fields of a resource: generated are the properties that the mirror asks for.

    `relations` are those that Graph has besides the declared ones.
    """
    generated = declared.selected[: len(declared.selected) - len(declared.relations)]
    edges = tuple(dict.fromkeys((*declared.relations, *relations)))
    source = declared.source
    return ResourceFields(
        declared.name,
        declared.graph_type,
        source.path.strip("/"),
        generated,
        delta_path=source.delta_path.strip("/"),
        object_path=declared.by_id.strip("/").rpartition("/{")[0],
        permission=declared.permission,
        relations=edges,
        default_names=default_names,
        further=further,
        never_set=tuple(name for name in never_set if name not in (*generated, *edges)),
        unselectable=unselectable,
        shows_unset=declared.service != "sharepoint",
    )


USERS = build_fields(
    RESOURCES["users"],
    relations=(MANAGER,),
    default_names=split(
        "businessPhones displayName givenName jobTitle mail mobilePhone officeLocation "
        "preferredLanguage surname userPrincipalName id"
    ),
    further=split(
        "creationType externalUserStateChangeDateTime onPremisesDomainName "
        "onPremisesUserPrincipalName onPremisesExtensionAttributes employeeOrgData "
        "isResourceAccount passwordPolicies securityIdentifier signInActivity"
    ),
    never_set=split("deletedDateTime ageGroup consentProvidedForMinor faxNumber showInAddressList"),
    unselectable=split(
        "aboutMe birthday hireDate interests mySite pastProjects preferredName "
        "responsibilities schools skills mailboxSettings"
    ),
)

GROUPS = build_fields(
    RESOURCES["groups"],
    relations=(OWNERS,),
    further=split(
        "assignedLicenses isManagementRestricted onPremisesSamAccountName onPremisesDomainName "
        "onPremisesNetBiosName preferredDataLocation resourceBehaviorOptions"
    ),
    never_set=split("deletedDateTime onPremisesLastSyncDateTime theme preferredLanguage"),
)

SITES = build_fields(
    RESOURCES["sites"],
    never_set=("eTag", "sharepointIds", "parentReference", "createdBy", "lastModifiedBy"),
)

ROLE_DEFINITIONS = build_fields(
    RESOURCES["role_definitions"], never_set=("inheritsPermissionsFrom",)
)

ROLE_ASSIGNMENTS = build_fields(RESOURCES["role_assignments"])


def build_kind(
    resource: str,
    type_name: str,
    path: str,
    names: str,
    *,
    permission: str,
    with_delta: bool = False,
    relations: tuple[str, ...] = (),
    never_set: str = "",
) -> ResourceFields:
    """Return the fields of a resource that has templates, whether or not the mirror declares it."""
    generated = split(names)
    declared = RESOURCES.get(resource)
    if declared:
        known = (*generated, *relations)
        generated += tuple(
            name for name in declared.selected if name not in (*known, *declared.relations)
        )
    return ResourceFields(
        resource,
        type_name,
        path,
        generated,
        delta_path=f"{path}/delta" if with_delta else "",
        object_path=path,
        permission=permission,
        relations=relations,
        never_set=tuple(name for name in split(never_set) if name not in generated),
    )


_PIM = "roleManagement/directory"
_ACTIVATION = (
    "id principalId roleDefinitionId directoryScopeId appScopeId startDateTime endDateTime "
    "memberType"
)

SERVICE_PRINCIPALS = build_kind(
    "service_principals",
    "servicePrincipal",
    "servicePrincipals",
    "id appId displayName servicePrincipalType accountEnabled appOwnerOrganizationId "
    "appRoleAssignmentRequired tags signInAudience verifiedPublisher disabledByMicrosoftStatus "
    "appRoles keyCredentials passwordCredentials",
    permission="Application.Read.All",
    with_delta=True,
    never_set="deletedDateTime alternativeNames appDescription appDisplayName "
    "applicationTemplateId createdDateTime description homepage info loginUrl logoutUrl notes "
    "notificationEmailAddresses oauth2PermissionScopes preferredSingleSignOnMode replyUrls "
    "servicePrincipalNames",
)

APPLICATIONS = build_kind(
    "applications",
    "application",
    "applications",
    "id appId displayName signInAudience publisherDomain createdDateTime tags identifierUris "
    "appRoles requiredResourceAccess keyCredentials passwordCredentials",
    permission="Application.Read.All",
    with_delta=True,
    never_set="deletedDateTime description notes groupMembershipClaims isFallbackPublicClient",
)

APP_ROLE_ASSIGNMENTS = build_kind(
    "app_role_assignments",
    "appRoleAssignment",
    "servicePrincipals/{id}/appRoleAssignedTo",
    "id principalId principalType principalDisplayName resourceId resourceDisplayName appRoleId "
    "createdDateTime",
    permission="Application.Read.All",
    never_set="deletedDateTime",
)

PERMISSION_GRANTS = build_kind(
    "oauth2_permission_grants",
    "oAuth2PermissionGrant",
    "oauth2PermissionGrants",
    "id clientId consentType principalId resourceId scope",
    permission="Directory.Read.All",
    with_delta=True,
)

ADMINISTRATIVE_UNITS = build_kind(
    "administrative_units",
    "administrativeUnit",
    "directory/administrativeUnits",
    "id displayName description visibility isMemberManagementRestricted membershipType "
    "membershipRule membershipRuleProcessingState",
    permission="AdministrativeUnit.Read.All",
    with_delta=True,
    relations=(MEMBERS,),
    never_set="deletedDateTime",
)

SUBSCRIBED_SKUS = build_kind(
    "subscribed_skus",
    "subscribedSku",
    "subscribedSkus",
    "id skuId skuPartNumber appliesTo capabilityStatus consumedUnits prepaidUnits servicePlans "
    "subscriptionIds accountId accountName",
    permission="LicenseAssignment.Read.All",
)

ROLE_ELIGIBILITIES = build_kind(
    "role_eligibility_schedule_instances",
    "unifiedRoleEligibilityScheduleInstance",
    f"{_PIM}/roleEligibilityScheduleInstances",
    f"{_ACTIVATION} roleEligibilityScheduleId",
    permission="RoleManagement.Read.Directory",
)

ROLE_INSTANCES = build_kind(
    "role_assignment_schedule_instances",
    "unifiedRoleAssignmentScheduleInstance",
    f"{_PIM}/roleAssignmentScheduleInstances",
    f"{_ACTIVATION} assignmentType roleAssignmentOriginId roleAssignmentScheduleId",
    permission="RoleManagement.Read.Directory",
)

KINDS = (
    SERVICE_PRINCIPALS,
    APPLICATIONS,
    APP_ROLE_ASSIGNMENTS,
    PERMISSION_GRANTS,
    ADMINISTRATIVE_UNITS,
    SUBSCRIBED_SKUS,
    ROLE_ELIGIBILITIES,
    ROLE_INSTANCES,
)
"""Resources of which a tenant has none unless they are asked for (`KindCounts`)."""

SIGN_INS, MANAGERS = "sign_in_activity", "managers"
OTHER_APP_ROLES = "other_app_role_assignments"
"""App role assignments of other applications than Microsoft Graph; one store has all of them."""
_PARTS_OF_OTHERS = (SIGN_INS, MANAGERS, OTHER_APP_ROLES)

_SIMULATED = (USERS, GROUPS, SITES, ROLE_DEFINITIONS, ROLE_ASSIGNMENTS, *KINDS)
_SIMULATED_NAMES = {*(one.resource for one in _SIMULATED), *_PARTS_OF_OTHERS}

OTHERS = tuple(build_fields(one) for one in STREAMED if one.name not in _SIMULATED_NAMES)
"""Resources without templates, options or oddities of their own: all follows from their types."""

FIELDS = {one.resource: one for one in (*_SIMULATED, *OTHERS)}

PERMISSIONS = {
    **{one.resource: one.permission for one in FIELDS.values()},
    "group_members": RESOURCES["group_members"].permission,
    "group_owners": "GroupMember.Read.All",
    "administrative_unit_members": ADMINISTRATIVE_UNITS.permission,
    MANAGERS: USERS.permission,
    SIGN_INS: "AuditLog.Read.All",
    OTHER_APP_ROLES: APP_ROLE_ASSIGNMENTS.permission,
}
"""The permission that each resource needs, by its name; what can be refused."""
