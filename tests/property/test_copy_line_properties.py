"""Many COPY lines made together are the lines made one by one."""

from datetime import UTC
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.property import (
    BOOLEAN,
    DOCUMENT,
    DOCUMENTS,
    INTEGER,
    TEXTS,
    TIMESTAMP,
    ValueType,
)
from models.resource import Resource
from models.resources import RESOURCES
from tests.support.every_type import EVERY_TYPE
from worker.rows.shape import Row, get_shape

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
texts |= st.sampled_from(
    ["", "\\N", "null", "true,false", "]", "[", "\n[", "]\n", "a\tb", "\r", "{}"]
)
objects = st.dictionaries(texts, texts | st.none() | st.booleans(), max_size=2)
VALUES: dict[ValueType, st.SearchStrategy[Any]] = {
    DOCUMENT: objects,
    DOCUMENTS: st.lists(objects, max_size=2),
    TEXTS: st.lists(texts, max_size=3),
    TIMESTAMP: st.datetimes(timezones=st.just(UTC)),
    BOOLEAN: st.booleans(),
    INTEGER: st.integers(-(2**63), 2**63 - 1),
}


def rows(resource: Resource) -> st.SearchStrategy[Row]:
    others = resource.columns[1:]
    return st.tuples(texts, *(st.none() | VALUES.get(column.type, texts) for column in others))


@pytest.mark.parametrize(
    "resource",
    [*(r for r in RESOURCES.values() if not r.is_edge), EVERY_TYPE],
    ids=lambda one: one.name,
)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_lines_and_json_made_together_are_those_made_one_by_one(
    resource: Resource, data: st.DataObject
) -> None:
    some = data.draw(st.lists(rows(resource), min_size=1, max_size=4))
    shape = get_shape(resource)
    assert shape.encode_lines(some) == [shape.encode_line(row) for row in some]
    assert shape.encode_json_lines(some) == [shape.encode_json(row) for row in some]


def test_of_no_rows_there_are_no_lines() -> None:
    shape = get_shape(RESOURCES["users"])
    assert (shape.encode_lines([]), shape.encode_json_lines([])) == ([], [])
