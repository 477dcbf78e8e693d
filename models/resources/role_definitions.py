"""Directory role definitions.

https://learn.microsoft.com/graph/api/resources/unifiedroledefinition
"""

from typing import Final

from models.property import boolean, documents, guid, text, texts
from models.resource import Resource
from models.source import Source

_PATH: Final = "/roleManagement/directory/roleDefinitions"

ROLE_DEFINITIONS: Final = Resource(
    name="role_definitions",
    meaning="Built-in and custom directory roles",
    graph_type="unifiedRoleDefinition",
    permission="RoleManagement.Read.Directory",
    by_id=f"{_PATH}/{{id}}",
    source=Source(path=_PATH, select=False, intervals=("roles_seconds",)),
    event_noun="role_definition",
    labels=("display_name",),
    properties=(
        guid("id", "id of the role", key=True),
        text("display_name", "name of the role"),
        text("description", "what the role is for"),
        boolean("is_built_in", "whether Microsoft defined it"),
        boolean("is_enabled", "whether it can be assigned"),
        text("template_id", "id of its template, the same in all tenants"),
        text("version", "version of the definition"),
        texts("resource_scopes", "scopes in which it can be assigned", unordered=True),
        documents("role_permissions", "allowed actions, with their conditions", unordered=True),
    ),
)
