"""Lists of texts as Postgres reads them, against a real Postgres."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from sandbox.servers import Servers
from worker.rows.copy_format import encode_array

Texts = list[str]
ODD: list[Texts] = [
    [],
    [""],
    ["", ""],
    ["a"],
    ["a", "b"],
    ["null", "NULL", "Null"],
    ['"'],
    ['""'],
    ['","'],
    ['a","b', "c"],
    ["\\"],
    ["\\\\", "\\n"],
    ['\\"', '"\\'],
    ["{", "}", "{}", "{{a}}"],
    [",", ",,", " , "],
    [" ", "  a  ", "\t", "\n", "\r\n"],
    ["\u00e9", "\u4f60\u597d", "\U0001f41d", "\u202e", "\ufeff"],
    ["SMTP:ada@contoso.example", "smtp:O'Brien@contoso.example"],
    ["x" * 10_000],
]


@pytest.fixture(scope="module")
def raw(servers: Servers) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(servers.database_url, autocommit=True) as connection:
        yield connection


def round_trip(raw: psycopg.Connection[Any], values: Texts) -> Any:
    row = raw.execute("select %s::text::text[]", (encode_array(values),)).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("values", ODD, ids=repr)
def test_a_list_comes_back_as_it_went(raw: psycopg.Connection[Any], values: Texts) -> None:
    assert round_trip(raw, values) == values


@pytest.mark.parametrize("values", ODD, ids=repr)
def test_a_list_is_copied_as_it_is(raw: psycopg.Connection[Any], values: Texts) -> None:
    with raw.transaction():
        raw.execute("create temporary table copied (listed text[]) on commit drop")
        with raw.cursor() as cursor, cursor.copy("copy copied from stdin") as copy:
            copy.write_row((encode_array(values),))
        row = raw.execute("select listed from copied").fetchone()
    assert row == (values,)


@pytest.mark.parametrize(
    ("values", "literal"),
    [([], "{}"), ([""], '{""}'), (["a", "b"], '{"a","b"}'), (['"'], '{"\\""}')],
)
def test_the_literal_is_quoted(values: Texts, literal: str) -> None:
    assert encode_array(values) == literal
