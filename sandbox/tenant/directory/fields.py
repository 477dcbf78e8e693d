"""The properties of each resource: generated, returned by default, or refused.

Generated are the properties that the mirror's declarations name. Defaults follow Graph's v1.0
reference. Names that Graph knows but these tenants never set are accepted in a `$select` and stay
null.
"""

from typing import NamedTuple

from models.resource import Resource
from models.resources import RESOURCES, STREAMED
from sandbox.tenant.errors import GraphError, build_unknown_property

MEMBERS = "members"


def split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


class ResourceFields(NamedTuple):
    """The properties of one resource; bit n of a select mask is `known[n]`."""

    declared: Resource
    generated: tuple[str, ...]
    default_names: tuple[str, ...] = ()
    never_set: tuple[str, ...] = ()
    unselectable: tuple[str, ...] = ()

    @property
    def resource(self) -> str:
        return self.declared.name

    @property
    def type_name(self) -> str:
        return self.declared.graph_type

    @property
    def shows_unset(self) -> bool:
        """Whether lists show unset properties as null; SharePoint leaves them out."""
        return self.declared.service != "sharepoint"

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


def build_fields(
    declared: Resource,
    *,
    default_names: tuple[str, ...] = (),
    never_set: tuple[str, ...] = (),
    unselectable: tuple[str, ...] = (),
) -> ResourceFields:
    """Return the fields of a resource: generated are the properties that the mirror asks for."""
    generated = declared.selected[: len(declared.selected) - len(declared.relations)]
    others = (*declared.relations, *never_set)
    return ResourceFields(declared, generated, default_names, others, unselectable)


USERS = build_fields(
    RESOURCES["users"],
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

GROUPS = build_fields(
    RESOURCES["groups"],
    never_set=split(
        "deletedDateTime onPremisesLastSyncDateTime onPremisesSamAccountName theme "
        "preferredLanguage preferredDataLocation"
    ),
)

SITES = build_fields(
    RESOURCES["sites"],
    never_set=("eTag", "sharepointIds", "parentReference", "createdBy", "lastModifiedBy"),
)

ROLE_DEFINITIONS = build_fields(
    RESOURCES["role_definitions"], never_set=("inheritsPermissionsFrom",)
)

ROLE_ASSIGNMENTS = build_fields(RESOURCES["role_assignments"])

_SIMULATED = (USERS, GROUPS, SITES, ROLE_DEFINITIONS, ROLE_ASSIGNMENTS)
_SIMULATED_NAMES = frozenset(one.resource for one in _SIMULATED)

OTHERS = tuple(build_fields(one) for one in STREAMED if one.name not in _SIMULATED_NAMES)
"""Resources without templates, options or oddities of their own: all follows from their types."""

FIELDS = {one.resource: one for one in (*_SIMULATED, *OTHERS)}
