"""The registry of all mirrored Graph resources, in display order."""

from typing import Final

from models.resource import Resource
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
from models.resources.role_assignments import ROLE_ASSIGNMENTS
from models.resources.role_definitions import ROLE_DEFINITIONS
from models.resources.sites import SITES
from models.resources.users import USERS

RESOURCES: Final[dict[str, Resource]] = {
    resource.name: resource
    for resource in (USERS, GROUPS, GROUP_MEMBERS, SITES, ROLE_DEFINITIONS, ROLE_ASSIGNMENTS)
}

STREAMED: Final[tuple[Resource, ...]] = tuple(r for r in RESOURCES.values() if not r.parent)
"""Resources with their own walk; edges are read with their parent."""
