"""Any value of any type comes back from Postgres as it went, however it is written."""

from collections.abc import Iterator
from datetime import UTC
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.property import DOCUMENT, GUID, INTEGER, TIMESTAMP, Property
from sandbox.servers import Servers
from tests.property.test_copy_line_properties import VALUES, texts
from tests.support.every_type import EVERY_TYPE
from worker.rows.shape import Row, get_shape
from worker.store.mirror.write import build_parameter_converter

SHAPE = get_shape(EVERY_TYPE)
COLUMNS = ", ".join(f'"{one.name}"' for one in EVERY_TYPE.columns)
RELAXED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
whole = st.integers(-(2**63), 2**63 - 1)
inner = st.none() | st.booleans() | whole | texts
STORED = VALUES | {
    GUID: st.uuids().map(str),
    INTEGER: whole,
    TIMESTAMP: st.datetimes(timezones=st.just(UTC)),
    DOCUMENT: st.dictionaries(
        texts, inner | st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2)
    ),
}


def values(column: Property) -> st.SearchStrategy[Any]:
    known = STORED.get(column.type, texts)
    return known if column.key else st.none() | known


rows = st.tuples(*map(values, EVERY_TYPE.columns))


@pytest.fixture(scope="module")
def raw(servers: Servers) -> Iterator[psycopg.Connection[Any]]:
    columns = ", ".join(f'"{one.name}" {one.type.sql}' for one in EVERY_TYPE.columns)
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        connection.execute("set time zone 'UTC'")
        connection.execute(f"create temporary table samples ({columns})".encode())
        yield connection


def spelled(row: tuple[Any, ...] | None) -> Row:
    """A row of Postgres's with GUIDs as texts."""
    assert row is not None
    return tuple(
        str(value) if column.type is GUID and value is not None else value
        for column, value in zip(EVERY_TYPE.columns, row, strict=True)
    )


@given(some=st.lists(rows, min_size=1, max_size=4))
@RELAXED
def test_copied_rows_come_back_as_they_went(raw: psycopg.Connection[Any], some: list[Row]) -> None:
    raw.execute("truncate samples")
    with raw.cursor() as cursor:
        with cursor.copy(f"copy samples ({COLUMNS}) from stdin".encode()) as copy:
            for line in SHAPE.encode_lines(some):
                copy.write(line + b"\n")
        cursor.execute("select * from samples order by ctid")
        found = [spelled(row) for row in cursor.fetchall()]
    assert found == some
    assert [SHAPE.hash_row(row) for row in found] == [SHAPE.hash_row(row) for row in some]
    for was, now in zip(some, found, strict=True):
        assert not SHAPE.find_differences(SHAPE.canonicalize(was), SHAPE.canonicalize(now))


@given(row=rows)
@RELAXED
def test_parameters_of_an_update_come_back_as_they_went(
    raw: psycopg.Connection[Any], row: Row
) -> None:
    holes = ", ".join(f"%s::{one.type.sql}" for one in EVERY_TYPE.columns)
    sent = build_parameter_converter(EVERY_TYPE)(row)
    assert spelled(raw.execute(f"select {holes}".encode(), sent).fetchone()) == row


@given(row=rows)
@RELAXED
def test_what_an_event_tells_is_the_row(raw: psycopg.Connection[Any], row: Row) -> None:
    """As a consumer reads it, and as an earlier state is read back."""
    told = SHAPE.encode_json(row).decode()
    populate = b"select (jsonb_populate_record(null::samples, %s::text::jsonb)).*"
    assert spelled(raw.execute(populate, (told,)).fetchone()) == row
