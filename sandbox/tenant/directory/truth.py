"""The truth: rows, counts and checksums of a perfect mirror of a tenant.

Rows follow the mirror's published columns: snake_case of Graph's names, GUIDs in lower case, times
in UTC with microseconds (further digits are cut off; year 1 is null), unordered lists sorted,
nested objects as they are, absent as null. A row's text is its compact JSON with sorted keys; a
resource's checksum is the sum, modulo 2**64, of the first eight bytes (big endian) of each text's
SHA-256, so the order of rows does not matter.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec

from models.property import (
    BOOLEAN,
    DOCUMENT,
    DOCUMENTS,
    GUID,
    INTEGER,
    TEXT,
    TEXTS,
    TIMESTAMP,
    ValueType,
)
from models.resource import Resource
from models.resources import RESOURCES

TruthRow = dict[str, Any]
Normalize = Callable[[Any], Any]

MODULUS = 1 << 64
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z")
_TYPES = {"servicePrincipal": "service_principal", "orgContact": "org_contact"}
_MEMBER_TYPES = frozenset({"user", "group", "device", "service_principal", "org_contact"})


@dataclass(frozen=True, slots=True)
class Truth:
    count: int
    checksum: int


def normalize_time(text: str) -> str | None:
    """Return a Graph time in the form of the mirror's columns."""
    match = _TIME.fullmatch(text)
    if match is None:
        moment = datetime.fromisoformat(text).astimezone(UTC)
        return None if moment.year == 1 else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    seconds, fraction = match.groups()
    if seconds.startswith("0001-"):
        return None
    return f"{seconds}.{(fraction or '')[:6]:0<6}Z"


def _keep(value: Any) -> Any:
    return value


def _keep_members(value: Any) -> Any:
    """A member that is null says no more than one that is not there."""
    return {name: inner for name, inner in value.items() if inner is not None} or None


_NORMALIZE: dict[ValueType, Normalize] = {
    GUID: str.lower,
    TEXT: _keep,
    BOOLEAN: _keep,
    INTEGER: _keep,
    TIMESTAMP: normalize_time,
    TEXTS: sorted,
    DOCUMENT: _keep_members,
    DOCUMENTS: _keep,
}


@cache
def _list_columns(declared: Resource) -> list[tuple[str, str, Normalize]]:
    return [(one.graph_name, one.name, _NORMALIZE[one.type]) for one in declared.columns]


def build_plain_row(declared: Resource, properties: Mapping[str, Any]) -> TruthRow:
    """Return the row of an object whose columns are its properties."""
    row: TruthRow = {}
    for name, column, read in _list_columns(declared):
        value = properties.get(name)
        row[column] = None if value is None else read(value)
    return row


def _build_site_row(site: Mapping[str, Any]) -> TruthRow:
    _host, collection_id, web_id = site["id"].split(",")
    collection = site.get("siteCollection") or {}
    created, modified = site.get("createdDateTime"), site.get("lastModifiedDateTime")
    return {
        "id": web_id.lower(),
        "composite_id": site["id"],
        "site_collection_id": collection_id.lower(),
        "hostname": collection.get("hostname") or collection.get("hostName"),
        "display_name": site.get("displayName"),
        "name": site.get("name"),
        "description": site.get("description"),
        "web_url": site.get("webUrl"),
        "is_personal_site": site.get("isPersonalSite"),
        "is_root": "root" in site,
        "data_location_code": collection.get("dataLocationCode"),
        "created_date_time": created and normalize_time(created),
        "last_modified_date_time": modified and normalize_time(modified),
    }


_EDGE_COLUMNS = {
    "group_members": ("group_id", "member_id", "member_type"),
    "group_owners": ("group_id", "owner_id", "owner_type"),
    "administrative_unit_members": ("unit_id", "member_id", "member_type"),
}


def _build_edge_row(columns: tuple[str, ...], edge: Mapping[str, Any]) -> TruthRow:
    name = edge["@odata.type"].removeprefix("#microsoft.graph.")
    kind = _TYPES.get(name, name)
    parent = next(edge[one] for one in ("groupId", "unitId") if one in edge)
    values = parent.lower(), edge["id"].lower(), kind if kind in _MEMBER_TYPES else "other"
    return dict(zip(columns, values, strict=True))


_CREDENTIAL = ("keyId", "displayName", "startDateTime", "endDateTime")


def _show_credentials(found: Any) -> Any:
    """Leave of each credential what tells when it ends, not what it is."""
    return found and [{name: one.get(name) for name in _CREDENTIAL} for one in found]


def _derive_principal(props: Mapping[str, Any]) -> TruthRow:
    return {
        "key_credentials": _show_credentials(props.get("keyCredentials")),
        "password_credentials": _show_credentials(props.get("passwordCredentials")),
    }


def _derive_sku(props: Mapping[str, Any]) -> TruthRow:
    units = props.get("prepaidUnits") or {}
    return {
        "prepaid_enabled": units.get("enabled"),
        "prepaid_suspended": units.get("suspended"),
        "prepaid_warning": units.get("warning"),
        "prepaid_locked_out": units.get("lockedOut"),
    }


def _derive_grant(props: Mapping[str, Any]) -> TruthRow:
    scope = props.get("scope")
    return {"scopes": None if scope is None else sorted(scope.split())}


def _derive_manager(props: Mapping[str, Any]) -> TruthRow:
    return {"manager_id": props["manager"]["id"].lower()}


def _derive_sign_in(props: Mapping[str, Any]) -> TruthRow:
    activity = props["signInActivity"]
    names = {
        "last_sign_in_date_time": "lastSignInDateTime",
        "last_non_interactive_sign_in_date_time": "lastNonInteractiveSignInDateTime",
        "last_successful_sign_in_date_time": "lastSuccessfulSignInDateTime",
    }
    return {
        column: None if activity.get(name) is None else normalize_time(activity[name])
        for column, name in names.items()
    }


_DERIVE: dict[str, Callable[[Mapping[str, Any]], TruthRow]] = {
    "service_principals": _derive_principal,
    "applications": _derive_principal,
    "subscribed_skus": _derive_sku,
    "oauth2_permission_grants": _derive_grant,
    "managers": _derive_manager,
    "sign_in_activity": _derive_sign_in,
}
"""Columns that are no property of Graph's, written apart from what the mirror does."""


def build_declared_row(declared: Resource, properties: Mapping[str, Any]) -> TruthRow:
    """Return the row of an object with the columns that a declaration has."""
    row = build_plain_row(declared, properties)
    derive = _DERIVE.get(declared.name)
    if derive:
        found = derive(properties)
        row |= {name: value for name, value in found.items() if name in row}
    return row


def has_row(resource: str, properties: Mapping[str, Any]) -> bool:
    """Whether a mirror stores a row: no sign-in activity without any time."""
    if resource != "sign_in_activity":
        return True
    return any(value is not None for value in _derive_sign_in(properties).values())


def build_row(resource: str, properties: Mapping[str, Any]) -> TruthRow:
    """Return the mirrored row of an object, or of an edge as `iterate_live` yields it."""
    if resource == "sites":
        return _build_site_row(properties)
    if resource in _EDGE_COLUMNS:
        return _build_edge_row(_EDGE_COLUMNS[resource], properties)
    return build_declared_row(RESOURCES[resource], properties)


_encode = msgspec.json.Encoder(order="sorted").encode


def render_row(row: Mapping[str, Any]) -> bytes:
    return _encode(row)


def hash_row(text: bytes) -> int:
    return int.from_bytes(sha256(text).digest()[:8])


def compute_checksum(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return the checksum of rows of `build_row`, in any order."""
    return sum(hash_row(render_row(row)) for row in rows) % MODULUS


def truth_from_rows(rows: Iterable[Mapping[str, Any]]) -> Truth:
    count = total = 0
    for row in rows:
        count += 1
        total += hash_row(render_row(row))
    return Truth(count, total % MODULUS)


def truth_of(resource: str, objects: Iterable[Mapping[str, Any]]) -> Truth:
    """Return the truth of objects as `iterate_live` yields them."""
    return truth_from_rows(build_row(resource, one) for one in objects if has_row(resource, one))
