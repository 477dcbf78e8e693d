"""Any list of texts that Postgres can hold comes back as it went."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.servers import Servers
from worker.rows.copy_format import encode_array

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10
) | st.text('"\\{},N \n', max_size=6)


@pytest.fixture(scope="module")
def raw(servers: Servers) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        yield connection


@given(lists=st.lists(st.lists(texts, max_size=6), max_size=10))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_list_comes_back_as_it_went(
    raw: psycopg.Connection[Any], lists: list[list[str]]
) -> None:
    for values in lists:
        row = raw.execute("select %s::text::text[]", (encode_array(values),)).fetchone()
        assert row == (values,)
