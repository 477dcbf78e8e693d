"""Costs of calls in resource units."""

from collections.abc import Mapping

from models.resources import STREAMED

_DIRECTORY = {
    "users": 2,
    "groups/{id}/members": 3,
    "users/{id}/memberOf": 2,
    "servicePrincipals/{id}/appRoleAssignments": 2,
    "subscribedSkus": 3,
}
_SHAREPOINT_PATHS = frozenset(
    one.source.path.split("/")[1] for one in STREAMED if one.service == "sharepoint"
)
_ONE_SITE = "sites/{id}"


def is_sharepoint(shape: str) -> bool:
    """Whether SharePoint answers, rather than the directory."""
    return shape.split("/", maxsplit=1)[0] in _SHAREPOINT_PATHS


def compute_directory_cost(shape: str, params: Mapping[str, str]) -> int:
    """Return the cost of a read. A page costs the same with any content."""
    cost = _DIRECTORY.get(shape, 1)
    cost -= "$select" in params
    cost += "$expand" in params
    top = params.get("$top", "")
    cost -= top.isdigit() and int(top) < 20
    return max(cost, 1)


def compute_sharepoint_cost(shape: str) -> int:
    return 1 if shape == _ONE_SITE else 2
