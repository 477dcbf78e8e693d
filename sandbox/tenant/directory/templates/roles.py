"""Role definitions and assignments. They are few, so each is generated completely."""

import base64
from hashlib import blake2b
from random import Random

from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.templates.sample_names import DEPARTMENTS, TEAMS
from sandbox.tenant.directory.templates.template import Props


def make_definition(seed: int, number: int, *, built_in: bool) -> Props:
    rng = Random(f"{seed}/role/{number}")
    # Built-in roles have the same ids in every tenant, and are their own templates.
    object_id = (
        guid_from_parts("built-in", number) if built_in else guid_from_parts(seed, "role", number)
    )
    name = f"{rng.choice(DEPARTMENTS)} {rng.choice(TEAMS)} Administrator {number}"
    verbs = rng.sample(("read", "create", "update", "delete"), rng.randrange(1, 4))
    props: Props = {
        "id": object_id,
        "displayName": name,
        "description": f"May manage what belongs to {name}.",
        "isBuiltIn": built_in,
        "isEnabled": built_in or rng.random() < 0.9,
        "templateId": object_id,
        "resourceScopes": ["/"],
        "rolePermissions": [
            {
                "allowedResourceActions": [f"sandbox.directory/things/{verb}" for verb in verbs],
                "condition": None,
            }
        ],
    }
    if built_in:
        props["version"] = "1"
    return props


def build_assignment_id(role_id: str, principal_id: str, scope: str) -> str:
    """Return an opaque id of 45 characters that depends on role, principal and scope."""
    digest = blake2b(f"{role_id}/{principal_id}/{scope}".encode(), digest_size=32).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") + "-1"


def make_assignment(role_id: str, principal_id: str, scope: str, tenant_id: str) -> Props:
    return {
        "id": build_assignment_id(role_id, principal_id, scope),
        "principalId": principal_id,
        "roleDefinitionId": role_id,
        "directoryScopeId": scope,
        "principalOrganizationId": tenant_id,
    }
