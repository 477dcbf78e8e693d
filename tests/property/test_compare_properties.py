"""For any two rows: what is stored, what is told and what is hashed agree."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from models.change_event import ChangeKind
from models.property import (
    BOOLEAN,
    DOCUMENT,
    DOCUMENTS,
    GUID,
    INTEGER,
    TEXTS,
    TIMESTAMP,
    Property,
    ValueType,
    text,
)
from models.resource import Resource
from models.resources import RESOURCES
from tests.support.every_type import EVERY_TYPE
from worker.rows.shape import Row, RowShape, clear_values, get_shape
from worker.store.mirror.compare import (
    build_created,
    build_deleted,
    build_restored,
    build_updated,
    merge_columns,
)

ENTITIES = [*(resource for resource in RESOURCES.values() if not resource.parent), EVERY_TYPE]
RELAXED = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=(Phase.explicit, Phase.generate),  # shrinking rows of 37 columns takes minutes
)
KEY = "0a0b0c0d-0000-4000-8000-00000000000f"

texts = st.sampled_from(["", "a", "b", "\u00e9", "\U0001f41d", '"', "\\", "null"])
plain = st.none() | st.integers(2, 4) | texts  # 0 and 1 have a test of their own, below
nested = st.dictionaries(texts, plain | st.lists(plain, max_size=2), max_size=2)


def values(column: Property) -> st.SearchStrategy[Any]:
    """Values of a column, few enough to be equal now and then."""
    known: dict[ValueType, st.SearchStrategy[Any]] = {
        DOCUMENT: nested,
        DOCUMENTS: st.lists(nested, max_size=3),
        TEXTS: st.lists(texts, max_size=3),
        TIMESTAMP: st.sampled_from(
            [datetime(2024, 2, 29, tzinfo=UTC), datetime(9, 1, 1, tzinfo=UTC)]
        ),
        BOOLEAN: st.booleans(),
        INTEGER: st.sampled_from([0, 1, -1, 2**63 - 1]),
        GUID: st.just(KEY),
    }
    return st.none() | known.get(column.type, texts)


def rows(resource: Resource) -> st.SearchStrategy[Row]:
    return st.tuples(st.just(KEY), *(values(column) for column in resource.columns[1:]))


@st.composite
def pairs(draw: st.DrawFn, resource: Resource) -> tuple[Row, Row, int]:
    """An old row, a new one that shares much with it, and what of it was sent."""
    old = draw(rows(resource))
    other = draw(rows(resource))
    same = draw(st.integers(0, (1 << len(old)) - 1))
    new = tuple(old[index] if same >> index & 1 else value for index, value in enumerate(other))
    return old, new, draw(st.integers(0, (1 << len(old)) - 1)) | 1


def told(shape: RowShape, row: Row) -> Any:
    return msgspec.json.decode(shape.encode_json(shape.canonicalize(row)))


def stored(shape: RowShape, row: Row) -> bytes:
    """All columns of a row, those included that no event tells."""
    return msgspec.json.encode(shape.canonicalize(row), order="deterministic")


def arranged(shape: RowShape, content: dict[str, Any]) -> Any:
    """A told object with its lists in order, so that it can be compared."""
    row = tuple(content.get(name) for name in shape.names)
    return msgspec.json.decode(shape.encode_json(shape.canonicalize(row)))


@pytest.mark.parametrize("resource", ENTITIES, ids=lambda resource: resource.name)
@given(data=st.data())
@RELAXED
def test_what_was_sent_replaces_and_what_was_absent_stays(
    resource: Resource, data: st.DataObject
) -> None:
    old, new, present = data.draw(pairs(resource))
    row = merge_columns(old, new, present)
    for index, value in enumerate(row):
        assert value is (new if present >> index & 1 else old)[index]
    assert merge_columns(row, new, present) == row
    everything = (1 << len(new)) - 1
    assert merge_columns(old, new, everything) == new
    assert merge_columns(old, new, 0) == old


@pytest.mark.parametrize("resource", ENTITIES, ids=lambda resource: resource.name)
@given(data=st.data())
@RELAXED
def test_an_update_stores_tells_and_hashes_the_same(
    resource: Resource, data: st.DataObject
) -> None:
    old, new, present = data.draw(pairs(resource))
    untold = data.draw(st.just(0) | st.integers(0, (1 << len(old)) - 1)) & ~1
    shape = get_shape(resource)
    outcome = build_updated(shape, KEY, old, new, present, untold=untold)
    row = merge_columns(old, new, present)
    if outcome is None:
        assert stored(shape, old) == stored(shape, row)
        assert shape.hash_row(old) == shape.hash_row(row)
        return
    assert stored(shape, old) != stored(shape, row)
    assert outcome.row == row
    assert outcome.row_hash == shape.hash_row(row) != shape.hash_row(old)
    old, row, change = clear_values(old, untold), clear_values(row, untold), outcome.change
    assert (change is None) is (told(shape, old) == told(shape, row)), "it tells what is told"
    if change is None:
        return
    assert (change.kind, change.key) == (ChangeKind.UPDATED, KEY)
    assert change.before is not None
    assert change.after is not None
    before, after = msgspec.json.decode(change.before), msgspec.json.decode(change.after)
    assert change.changed is not None
    assert sorted(change.changed) == sorted(before) == sorted(after)
    whole_old = msgspec.json.decode(shape.encode_json(old))
    whole_new = msgspec.json.decode(shape.encode_json(row))
    assert arranged(shape, whole_old | after) == told(shape, row)
    assert arranged(shape, whole_new | before) == told(shape, old)


@pytest.mark.parametrize("resource", ENTITIES, ids=lambda resource: resource.name)
@given(data=st.data())
@RELAXED
def test_the_same_object_again_is_no_update(resource: Resource, data: st.DataObject) -> None:
    shape = get_shape(resource)
    row = data.draw(rows(resource))
    reversed_lists = tuple(value[::-1] if isinstance(value, list) else value for value in row)
    everything = (1 << len(row)) - 1
    assert build_updated(shape, KEY, row, row, everything) is None
    assert build_updated(shape, KEY, row, reversed_lists, everything) is None
    assert shape.hash_row(row) == shape.hash_row(reversed_lists)


@pytest.mark.parametrize("resource", ENTITIES, ids=lambda resource: resource.name)
@given(data=st.data())
@RELAXED
def test_a_column_that_is_added_keeps_the_hashes_of_the_rows_before_it(
    resource: Resource, data: st.DataObject
) -> None:
    row, other = data.draw(rows(resource)), data.draw(rows(resource))
    added = dataclasses.replace(
        resource, properties=(*resource.properties, text("added_later", "a later release's"))
    )
    shape, later = get_shape(resource), RowShape(added)
    assert later.hash_row((*row, None)) == shape.hash_row(row)
    assert later.hash_row((*row, "x")) != shape.hash_row(row)
    assert (shape.hash_row(row) == shape.hash_row(other)) is (
        stored(shape, row) == stored(shape, other)
    )


@pytest.mark.parametrize("resource", ENTITIES, ids=lambda resource: resource.name)
@given(data=st.data())
@RELAXED
def test_created_restored_and_deleted_tell_the_whole_object(
    resource: Resource, data: st.DataObject
) -> None:
    shape = get_shape(resource)
    row = data.draw(rows(resource))
    untold = data.draw(st.just(0) | st.integers(0, (1 << len(row)) - 1)) & ~1
    back = build_restored(shape, KEY, row, untold=untold)
    assert (back.row, back.row_hash, back.names) == (row, shape.hash_row(row), None)
    gone = build_deleted(shape, KEY, row, untold=untold)
    row = clear_values(row, untold)
    assert back.change is not None
    assert (back.change.kind, back.change.before) == (ChangeKind.RESTORED, None)
    assert back.change.after == shape.encode_json(row)
    assert (gone.kind, gone.after, gone.before) == (
        ChangeKind.DELETED,
        None,
        shape.encode_json(row),
    )
    made = build_created(KEY, shape.encode_json(row))
    assert (made.kind, made.before, made.after) == (
        ChangeKind.CREATED,
        None,
        shape.encode_json(row),
    )


@pytest.mark.parametrize(("old", "new"), [(1, True), (0, False), (True, 1)])
def test_a_nested_value_that_only_python_takes_for_equal_is_an_update(old: Any, new: Any) -> None:
    """Python says that 1 == True; JSON, the hash and the customer do not."""
    shape = get_shape(EVERY_TYPE)
    empty: dict[str, Any] = dict.fromkeys(EVERY_TYPE.column_names)
    for name, wrap in (("rules", lambda value: [{"a": value}]), ("org_data", lambda v: {"a": v})):
        before, after = (
            tuple((empty | {"id": KEY, name: wrap(value)}).values()) for value in (old, new)
        )
        assert build_updated(shape, KEY, before, after, (1 << len(before)) - 1) is not None


def test_an_object_with_its_members_in_another_order_is_the_same() -> None:
    """Postgres keeps them in an order of its own."""
    shape = get_shape(EVERY_TYPE)
    empty: dict[str, Any] = dict.fromkeys(EVERY_TYPE.column_names)
    ahead, behind = (
        tuple((empty | {"id": KEY, "org_data": value}).values())
        for value in ({"costCenter": "7", "division": None}, {"division": None, "costCenter": "7"})
    )
    assert build_updated(shape, KEY, ahead, behind, (1 << len(ahead)) - 1) is None
    assert shape.hash_row(ahead) == shape.hash_row(behind)
