"""Directory role definitions.

https://learn.microsoft.com/graph/api/resources/unifiedroledefinition
"""

from msgspec import UNSET
from sqlalchemy import ARRAY, Boolean, Column, Text
from sqlalchemy.dialects.postgresql import JSONB

from models.record import Nested, Record, Sent
from models.resource import Clock, Kind, Resource, guid_key, mirror_table


class RoleDefinition(Record, frozen=True, kw_only=True, gc=False):
    display_name: Sent[str] = UNSET
    description: Sent[str] = UNSET
    is_built_in: Sent[bool] = UNSET
    is_enabled: Sent[bool] = UNSET
    template_id: Sent[str] = UNSET
    version: Sent[str] = UNSET
    resource_scopes: Sent[list[str]] = UNSET
    role_permissions: Sent[Nested] = UNSET


role_definitions = mirror_table(
    "role_definitions",
    guid_key("id"),
    Column("display_name", Text),
    Column("description", Text),
    Column("is_built_in", Boolean),
    Column("is_enabled", Boolean),
    Column("template_id", Text),
    Column("version", Text),
    Column("resource_scopes", ARRAY(Text)),
    Column("role_permissions", JSONB),
    comment="Built-in and custom directory roles",
)

ROLE_DEFINITIONS = Resource(
    name="role_definitions",
    kind=Kind.SNAPSHOT,
    table=role_definitions,
    record=RoleDefinition,
    path="/roleManagement/directory/roleDefinitions",
    by_id="/roleManagement/directory/roleDefinitions/{id}",
    select=False,
    permission="RoleManagement.Read.Directory",
    clock=Clock(interval=15 * 60),
    event_noun="role_definition",
)
