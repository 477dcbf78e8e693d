"""What people rely on: the tables of the mirror, and the registry that everything reads."""

import importlib
import pkgutil
from typing import Any

import msgspec
import pytest
from sqlalchemy.dialects import postgresql

import models.resources
from models.record import list_graph_properties
from models.resource import BOOKKEEPING, OWNER, Kind, Resource
from models.resources import RESOURCES, STREAMED
from models.tables import metadata
from worker.rows.shape import get_shape

ALL = pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource.name)
ENTITIES = [resource for resource in RESOURCES.values() if resource.kind is not Kind.EDGE]
WITH_RECORDS = pytest.mark.parametrize("resource", ENTITIES, ids=lambda resource: resource.name)
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

STAMP = "TIMESTAMP WITH TIME ZONE"
COLUMNS: dict[str, dict[str, str]] = {
    "users": {
        "id": "UUID",
        "user_principal_name": "TEXT",
        "display_name": "TEXT",
        "given_name": "TEXT",
        "surname": "TEXT",
        "mail": "TEXT",
        "mail_nickname": "TEXT",
        "job_title": "TEXT",
        "department": "TEXT",
        "company_name": "TEXT",
        "office_location": "TEXT",
        "employee_id": "TEXT",
        "employee_type": "TEXT",
        "employee_hire_date": STAMP,
        "user_type": "TEXT",
        "account_enabled": "BOOLEAN",
        "created_date_time": STAMP,
        "business_phones": "TEXT[]",
        "mobile_phone": "TEXT",
        "city": "TEXT",
        "state": "TEXT",
        "country": "TEXT",
        "postal_code": "TEXT",
        "street_address": "TEXT",
        "usage_location": "TEXT",
        "preferred_language": "TEXT",
        "proxy_addresses": "TEXT[]",
        "other_mails": "TEXT[]",
        "on_premises_sync_enabled": "BOOLEAN",
        "on_premises_immutable_id": "TEXT",
        "on_premises_sam_account_name": "TEXT",
        "on_premises_distinguished_name": "TEXT",
        "on_premises_security_identifier": "TEXT",
        "on_premises_last_sync_date_time": STAMP,
        "external_user_state": "TEXT",
        "last_password_change_date_time": STAMP,
        "assigned_licenses": "JSONB",
    },
    "groups": {
        "id": "UUID",
        "display_name": "TEXT",
        "description": "TEXT",
        "mail": "TEXT",
        "mail_nickname": "TEXT",
        "mail_enabled": "BOOLEAN",
        "security_enabled": "BOOLEAN",
        "group_types": "TEXT[]",
        "visibility": "TEXT",
        "is_assignable_to_role": "BOOLEAN",
        "membership_rule": "TEXT",
        "membership_rule_processing_state": "TEXT",
        "created_date_time": STAMP,
        "renewed_date_time": STAMP,
        "expiration_date_time": STAMP,
        "classification": "TEXT",
        "proxy_addresses": "TEXT[]",
        "on_premises_sync_enabled": "BOOLEAN",
        "on_premises_security_identifier": "TEXT",
        "resource_provisioning_options": "TEXT[]",
        "security_identifier": "TEXT",
    },
    "group_members": {"group_id": "UUID", "member_id": "UUID", "member_type": "TEXT"},
    "sites": {
        "id": "UUID",
        "composite_id": "TEXT",
        "site_collection_id": "UUID",
        "hostname": "TEXT",
        "display_name": "TEXT",
        "name": "TEXT",
        "description": "TEXT",
        "web_url": "TEXT",
        "is_personal_site": "BOOLEAN",
        "is_root": "BOOLEAN",
        "data_location_code": "TEXT",
        "created_date_time": STAMP,
        "last_modified_date_time": STAMP,
    },
    "role_definitions": {
        "id": "UUID",
        "display_name": "TEXT",
        "description": "TEXT",
        "is_built_in": "BOOLEAN",
        "is_enabled": "BOOLEAN",
        "template_id": "TEXT",
        "version": "TEXT",
        "resource_scopes": "TEXT[]",
        "role_permissions": "JSONB",
    },
    "role_assignments": {
        "id": "TEXT",
        "principal_id": "UUID",
        "role_definition_id": "UUID",
        "directory_scope_id": "TEXT",
        "app_scope_id": "TEXT",
        "condition": "TEXT",
        "principal_organization_id": "TEXT",
    },
}
KEYS = dict.fromkeys(COLUMNS, ("id",)) | {"group_members": ("group_id", "member_id")}
REFUSED_BY_GRAPH = {
    "aboutMe",
    "birthday",
    "hireDate",
    "interests",
    "mySite",
    "pastProjects",
    "preferredName",
    "responsibilities",
    "schools",
    "skills",
    "mailboxSettings",
    "signInActivity",
    "licenseAssignmentStates",
}
"""Properties of a user that a list or delta refuses, or does not track."""


def spelled(column: Any) -> str:
    return str(column.type.compile(dialect=DIALECT))


# ---- tables


def test_the_mirror_has_these_tables() -> None:
    directory = {table.name for table in metadata.tables.values() if table.schema == "directory"}
    assert directory == COLUMNS.keys() == RESOURCES.keys()


@ALL
def test_the_columns_are_a_contract(resource: Resource) -> None:
    found = {str(column.name): spelled(column) for column in resource.columns}
    assert found == COLUMNS[resource.name]
    assert list(found) == list(COLUMNS[resource.name])


@ALL
def test_every_table_has_the_owner_first_and_our_bookkeeping_last(resource: Resource) -> None:
    names = [str(column.name) for column in resource.table.columns]
    assert names == [OWNER, *COLUMNS[resource.name], *BOOKKEEPING]
    types = {str(column.name): spelled(column) for column in resource.table.columns}
    assert types[OWNER] == "BIGINT"
    assert types["row_hash"] == "BYTEA"
    assert types["deleted_reason"] == "TEXT"
    for name in ("first_seen_at", "changed_at", "deleted_at"):
        assert types[name] == STAMP


@ALL
def test_the_key_is_graphs_behind_the_connection(resource: Resource) -> None:
    primary = tuple(str(column.name) for column in resource.table.primary_key.columns)
    assert primary == (OWNER, *KEYS[resource.name])
    assert resource.key == KEYS[resource.name]
    assert resource.column_names[: len(resource.key)] == resource.key


@ALL
def test_only_keys_and_our_times_are_never_null(resource: Resource) -> None:
    """Graph may leave out anything but an id."""
    required = {str(c.name) for c in resource.table.columns if not c.nullable}
    assert required == {OWNER, *resource.key, "first_seen_at", "changed_at"}


@ALL
def test_a_table_is_named_after_its_resource_and_explained(resource: Resource) -> None:
    assert resource.table.name == resource.name
    assert resource.table.schema == "directory"
    assert resource.table.comment


# ---- records and select


@WITH_RECORDS
def test_every_column_comes_from_a_property_or_is_derived(resource: Resource) -> None:
    properties = {field.name for field in msgspec.structs.fields(resource.record)}
    derived = set(resource.derive(resource.record(id="x"))) if resource.derive else set()
    assert set(resource.column_names) <= properties | derived


@WITH_RECORDS
def test_every_property_has_a_column_or_is_read_by_the_derivation(resource: Resource) -> None:
    own = {"id", "removed", *(resource.children)}
    properties = {field.name for field in msgspec.structs.fields(resource.record)} - own
    beyond = properties - set(resource.column_names)
    assert beyond == ({"root", "site_collection"} if resource.name == "sites" else set())


@WITH_RECORDS
def test_a_property_has_graphs_name_in_snake_case(resource: Resource) -> None:
    for field in msgspec.structs.fields(resource.record):
        if "@" not in field.encode_name:
            words = field.name.split("_")
            assert field.encode_name == words[0] + "".join(word.title() for word in words[1:])


@WITH_RECORDS
def test_only_the_id_is_required(resource: Resource) -> None:
    required = [f.name for f in msgspec.structs.fields(resource.record) if f.required]
    assert required == ["id"]
    body = b'{"id": "0a0b0c0d-0000-4000-8000-000000000001"}'
    assert isinstance(msgspec.json.decode(body, type=resource.record), resource.record)


def _field(resource: Resource, name: str) -> str:
    fields = msgspec.structs.fields(resource.record)
    return next(field.name for field in fields if field.encode_name == name)


@WITH_RECORDS
def test_every_property_may_be_null_but_never_the_id(resource: Resource) -> None:
    for name in list_graph_properties(resource.record):
        content = {"id": "0a0b0c0d-0000-4000-8000-000000000001"} | {name: None}
        if name == "id":
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert(content, resource.record)
        else:
            assert (
                getattr(msgspec.convert(content, resource.record), _field(resource, name)) is None
            )


@WITH_RECORDS
def test_what_is_asked_for_is_what_is_kept(resource: Resource) -> None:
    """A property that is kept and not asked for would be null for ever."""
    assert resource.selected == (*list_graph_properties(resource.record), *resource.children)
    assert resource.selected[0] == "id"
    assert len(set(resource.selected)) == len(resource.selected)


def test_groups_are_asked_for_their_members_and_nobody_else() -> None:
    assert [name for name, one in RESOURCES.items() if one.children] == ["groups"]
    assert RESOURCES["groups"].selected[-1] == "members"


def test_nothing_that_graph_refuses_is_asked_for() -> None:
    assert not REFUSED_BY_GRAPH & set(RESOURCES["users"].selected)


# ---- the registry


def test_every_file_of_a_resource_is_registered() -> None:
    declared: set[str] = set()
    for module in pkgutil.iter_modules(models.resources.__path__):
        content = vars(importlib.import_module(f"models.resources.{module.name}"))
        found = {one.name for one in content.values() if isinstance(one, Resource)}
        assert found == {module.name}
        declared |= found
    assert declared == RESOURCES.keys()


def test_the_registry_names_each_resource_as_it_names_itself() -> None:
    assert all(name == resource.name for name, resource in RESOURCES.items())


def test_an_edge_travels_with_its_parent() -> None:
    assert {resource.name for resource in STREAMED} == RESOURCES.keys() - {"group_members"}
    for resource in RESOURCES.values():
        assert (resource.kind is Kind.EDGE) is bool(resource.parent)
        if resource.parent:
            assert RESOURCES[resource.parent].children


@ALL
def test_every_resource_says_what_it_needs(resource: Resource) -> None:
    assert resource.permission.count(".") >= 1
    assert resource.path.startswith("/")
    assert resource.event_noun
    if resource.kind is not Kind.EDGE:
        assert "{id}" in resource.by_id
        assert resource.address in resource.column_names
        assert resource.clock is not None
        assert resource.clock.interval > 0
    if resource.kind is Kind.ENTITY:
        assert resource.delta_path.startswith(f"{resource.path}/delta")
        assert resource.clock is not None
        assert resource.clock.full


PERMISSIONS = {
    "users": "User.Read.All",
    "groups": "Group.Read.All",
    "group_members": "GroupMember.Read.All",
    "sites": "Sites.Read.All",
    "role_definitions": "RoleManagement.Read.Directory",
    "role_assignments": "RoleManagement.Read.Directory",
}


def test_the_permissions_are_the_ones_that_operators_are_told() -> None:
    assert {name: one.permission for name, one in RESOURCES.items()} == PERMISSIONS


@ALL
def test_every_resource_has_a_shape(resource: Resource) -> None:
    shape = get_shape(resource)
    assert shape.names == resource.column_names
    assert get_shape(resource) is shape
    assert shape.all_columns == (1 << len(resource.columns)) - 1
    assert shape.all_columns < 1 << 63, "the bits of what was sent are kept in a bigint"


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=list(RESOURCES))
def test_only_the_key_starts_with_the_connection(resource: Resource) -> None:
    """Else a planner without statistics reads a whole tenant for each probe."""
    for index in resource.table.indexes:
        first = next(iter(index.columns)).name
        partial = index.dialect_options["postgresql"]["where"] is not None
        assert first != "connection_id" or partial
