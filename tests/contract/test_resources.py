"""What people rely on: the tables of the mirror, and the registry that everything reads."""

import importlib
import pkgutil
from dataclasses import fields
from typing import Any, get_args

import msgspec
import pytest
from sqlalchemy.dialects import postgresql

import models.resources
from models.closure import NESTED_EDGES, get_closure_name
from models.mirror import get_table
from models.property import guid, text
from models.resource import BOOKKEEPING, OWNER, Resource
from models.resources import EDGE_ENDS, REFERENCES, RESOURCES, STREAMED, list_unknown_names
from models.source import IntervalName, Source
from models.tables import metadata
from tests.support.samples import read_samples
from worker.graph.urls import build_delta_url, build_listing_url
from worker.rows.shape import get_shape
from worker.sync.plan import compute_select_hash
from worker.sync.policy import Policy

ALL = pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource.name)
ENTITIES = [resource for resource in RESOURCES.values() if not resource.is_edge]
WITH_RECORDS = pytest.mark.parametrize("resource", ENTITIES, ids=lambda resource: resource.name)
STREAMS = pytest.mark.parametrize("resource", STREAMED, ids=lambda resource: resource.name)
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

STAMP = "TIMESTAMP WITH TIME ZONE"
SAMPLES = read_samples()
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
    closures = {get_closure_name(edge) for edge in NESTED_EDGES}
    assert directory - closures == SAMPLES.keys() == RESOURCES.keys()
    assert closures == {"group_closure"} < directory


@ALL
def test_the_columns_are_a_contract(resource: Resource) -> None:
    table = get_table(resource)
    found = {name: spelled(table.columns[name]) for name in resource.column_names}
    assert found == SAMPLES[resource.name].columns
    assert list(found) == list(SAMPLES[resource.name].columns)


@ALL
def test_every_table_has_the_owner_first_and_our_bookkeeping_last(resource: Resource) -> None:
    names = [str(column.name) for column in get_table(resource).columns]
    assert names == [OWNER, *SAMPLES[resource.name].columns, *BOOKKEEPING]
    types = {str(column.name): spelled(column) for column in get_table(resource).columns}
    assert types[OWNER] == "BIGINT"
    assert types["row_hash"] == "BYTEA"
    assert types["deleted_reason"] == "TEXT"
    for name in ("first_seen_at", "changed_at", "deleted_at"):
        assert types[name] == STAMP


@ALL
def test_the_key_is_graphs_behind_the_connection(resource: Resource) -> None:
    primary = tuple(str(column.name) for column in get_table(resource).primary_key.columns)
    assert primary == (OWNER, *SAMPLES[resource.name].key)
    assert resource.key == SAMPLES[resource.name].key
    assert resource.column_names[: len(resource.key)] == resource.key


@ALL
def test_only_keys_and_our_times_are_never_null(resource: Resource) -> None:
    """Graph may leave out anything but an id."""
    required = {str(c.name) for c in get_table(resource).columns if not c.nullable}
    assert required == {OWNER, *resource.key, "first_seen_at", "changed_at"}


@ALL
def test_a_table_is_named_after_its_resource_and_explained(resource: Resource) -> None:
    assert get_table(resource).name == resource.name
    assert get_table(resource).schema == "directory"
    assert get_table(resource).comment


# ---- records and select


@WITH_RECORDS
def test_every_column_comes_from_a_property_or_is_derived(resource: Resource) -> None:
    properties = {field.name for field in msgspec.structs.fields(resource.record)}
    derived = set(resource.derive(resource.record(id="x"))) if resource.derive else set()
    assert set(resource.column_names) <= properties | derived
    assert {one.name for one in resource.properties if one.derived} == derived - {"id"}


@WITH_RECORDS
def test_every_property_has_a_column_or_is_read_by_the_derivation(resource: Resource) -> None:
    known = {"id", "removed", *resource.relations, *resource.column_names}
    found = msgspec.structs.fields(resource.record)
    beyond = {field.name for field in found if field.name not in known}
    assert beyond == {name for one in resource.properties for name in one.derived_from}


@WITH_RECORDS
def test_a_property_has_graphs_name_in_snake_case(resource: Resource) -> None:
    others = {one.name for one in resource.properties if one.sent_as}
    for field in msgspec.structs.fields(resource.record):
        if "@" not in field.encode_name and field.name not in others:
            words = field.name.split("_")
            assert field.encode_name == words[0] + "".join(word.title() for word in words[1:])


@WITH_RECORDS
def test_only_the_id_is_required(resource: Resource) -> None:
    required = [f.name for f in msgspec.structs.fields(resource.record) if f.required]
    assert required == ["id"]
    body = b'{"id": "0a0b0c0d-0000-4000-8000-000000000001"}'
    assert isinstance(msgspec.json.decode(body, type=resource.record), resource.record)


def _field(resource: Resource, name: str) -> str:
    found = msgspec.structs.fields(resource.record)
    return next(field.name for field in found if field.encode_name == name)


@WITH_RECORDS
def test_every_property_may_be_null_but_never_the_id(resource: Resource) -> None:
    for name in ("id", *(one.graph_name for one in resource.sent)):
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
    found = msgspec.structs.fields(resource.record)
    kept = [field.encode_name for field in found if "@" not in field.encode_name]
    expanded = [one.graph_name for one in resource.sent if one.expand]
    assert [*resource.selected] == [*(n for n in kept if n not in expanded), *resource.relations]
    assert resource.selected[0] == "id"
    assert len(set(resource.selected)) == len(resource.selected)


@ALL
def test_a_relation_is_asked_for_only_where_it_is_read(resource: Resource) -> None:
    carried = {one.relation for one in RESOURCES.values() if one.parent == resource.name}
    assert carried <= set(resource.relations)
    assert resource.derive is not None or carried == set(resource.relations), "else it is unread"
    assert (
        resource.selected[len(resource.selected) - len(resource.relations) :] == resource.relations
    )


@STREAMS
def test_the_urls_are_pinned_letter_by_letter(resource: Resource) -> None:
    sample = SAMPLES[resource.name]
    assert build_listing_url(resource) == sample.list_url
    assert (build_delta_url(resource) if resource.source.follows_delta else "") == sample.delta_url


@STREAMS
def test_the_cursor_of_a_delta_belongs_to_pinned_properties(resource: Resource) -> None:
    """Another hash starts a full walk of this resource in every tenant."""
    pinned = SAMPLES[resource.name].select_hash
    assert (compute_select_hash(resource) if resource.source.follows_delta else "") == pinned


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
    for resource in RESOURCES.values():
        assert (resource in STREAMED) is not resource.is_edge
        if resource.parent:
            assert RESOURCES[resource.parent].relations


@ALL
def test_every_resource_says_what_it_needs(resource: Resource) -> None:
    assert resource.permission.count(".") >= 1
    assert all(way.path.startswith("/") for way in resource.sources.values())
    assert resource.event_noun
    if not resource.is_edge:
        assert resource.address
        assert {*resource.address} <= {*resource.column_names}
        assert resource.graph_type
        assert all(way.intervals for way in resource.sources.values())
        if resource.source.follows_delta:
            assert resource.source.delta_path == f"{resource.source.path}/delta"


def test_every_interval_is_a_setting() -> None:
    assert set(get_args(IntervalName)) <= {field.name for field in fields(Policy)}


def test_a_property_may_have_another_name_in_graph() -> None:
    named = [guid("owner_id", "owner"), text("owner_id", "owner", sent_as="ownerRef")]
    assert [one.graph_name for one in named] == ["ownerId", "ownerRef"]


def test_what_a_declaration_names_must_be_declared() -> None:
    shift = Resource(
        name="shifts",
        meaning="Shifts",
        permission="Schedule.Read.All",
        source=Source(path="/shifts", intervals=("listing_seconds",), filtered_by="team_id"),
        event_noun="shift",
        labels=("title",),
        phrase="{user_id} on {day}",
        properties=(
            guid("id", "id", key=True),
            guid("user_id", "who works", references=("users", "people")),
            text("day", "day", derived=True, derived_from=("start",)),
        ),
    )
    assert list(list_unknown_names(shift)) == ["start", "team_id", "title", "people"]


def test_a_resource_knows_what_points_at_it() -> None:
    found = {
        name: [f"{one.resource.name}.{one.property.name}" for one in pointing]
        for name, pointing in REFERENCES.items()
    }
    declared = {
        (name, f"{resource.name}.{one.name}")
        for resource in RESOURCES.values()
        for one in resource.properties
        for name in one.references
    }
    assert {(name, one) for name, pointing in found.items() for one in pointing} == declared
    assert found["users"][0] == "group_members.member_id"
    assert found["groups"][:2] == ["group_members.group_id", "group_members.member_id"]
    assert found["role_definitions"][0] == "role_assignments.role_definition_id"
    assert {"users", "groups", "administrative_units"} == EDGE_ENDS


def test_the_permissions_are_the_ones_that_operators_are_told() -> None:
    told = {name: sample.permission for name, sample in SAMPLES.items()}
    assert {name: one.permission for name, one in RESOURCES.items()} == told


@ALL
def test_every_resource_has_a_shape(resource: Resource) -> None:
    shape = get_shape(resource)
    assert shape.names == resource.column_names
    assert get_shape(resource) is shape
    assert shape.all_columns == (1 << len(resource.columns)) - 1
    assert shape.all_columns < 1 << 63, "the bits of what was sent are kept in a bigint"


@ALL
def test_only_the_key_starts_with_the_connection(resource: Resource) -> None:
    """Else a planner without statistics reads a whole tenant for each probe."""
    for index in get_table(resource).indexes:
        first = next(iter(index.columns)).name
        partial = index.dialect_options["postgresql"]["where"] is not None
        assert first != "connection_id" or partial
