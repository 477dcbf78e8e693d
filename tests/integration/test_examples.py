"""The questions of docs/examples have the tenants' answers, for a login of an analyst.

A new example is a file there, whose first line is the question, and a check of its answer in one of
the modules of ``tests/support/examples``.
"""

import json
import runpy
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Final

import psycopg
import pytest

from migrations.walls.roles import LIMITS, ReaderKind
from tests.support import examples, story_examples
from tests.support.analysts import Analysts, Row
from tests.support.databases import DatabaseFactory
from tests.support.examples import Check
from tests.support.reader import Reader, open_reader
from tests.support.story import StoryMirror

FOLDER: Final = Path(__file__).parents[2] / "docs" / "examples"
EXAMPLES: Final = {path.stem: path for path in sorted(FOLDER.glob("*.sql"))}
MODULES: Final = [
    import_module(f"{examples.__name__}.{one.name}") for one in iter_modules(examples.__path__)
]
ANSWERS: Final[Mapping[str, Check]] = {
    name: check for one in MODULES for name, check in one.ANSWERS.items()
}


@pytest.fixture(scope="module")
def reader(cluster: DatabaseFactory, analysts: Analysts) -> Iterator[Reader]:
    with open_reader(cluster, analysts.database) as opened:
        yield opened


@pytest.fixture(scope="module")
def story_reader(cluster: DatabaseFactory, alpine: StoryMirror) -> Iterator[Reader]:
    with open_reader(cluster, alpine.database) as opened:
        yield opened


def read(reader: Reader, name: str) -> list[Row]:
    """The answer of an example to an analyst."""
    return reader.ask(EXAMPLES[name].read_text(encoding="utf-8"))


def test_the_reader_is_a_member_of_the_readers_role_alone_with_its_limits(reader: Reader) -> None:
    kind = ReaderKind.READER
    roles = (
        "select r.rolname as name from pg_roles r where pg_has_role(current_user, r.oid, 'member')"
    )
    assert {row["name"] for row in reader.ask(roles)} == {reader.login, kind.role}
    for setting, value in LIMITS[kind].settings.items():
        assert reader.ask(f"show {setting}") == [{setting: value.replace("60s", "1min")}]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.ask("select * from directory.users")


@pytest.mark.parametrize("name", ANSWERS)
def test_an_example_answers_its_question(analysts: Analysts, reader: Reader, name: str) -> None:
    ANSWERS[name](analysts, read(reader, name))


@pytest.mark.parametrize("name", story_examples.ANSWERS)
def test_an_example_answers_its_question_about_the_story(story_reader: Reader, name: str) -> None:
    pick, expected = story_examples.ANSWERS[name]
    assert [pick(row) for row in read(story_reader, name)] == expected


def test_members_that_are_hidden_are_not_called_none(analysts: Analysts) -> None:
    hide = """
        update directory.{0}s set visibility = 'HiddenMembership';
        update directory.{0}_members set deleted_at = now(), deleted_reason = 'not_seen'"""
    groups, units = (
        (hide.format(of), EXAMPLES[name].read_text(encoding="utf-8"))
        for of, name in (
            ("group", "groups-without-active-members"),
            ("administrative_unit", "unit-administrators"),
        )
    )
    assert analysts.ask_after(*groups) == []
    assert {row["users"] for row in analysts.ask_after(*units)} == {None}


def list_queries_of_tools() -> list[str]:
    """The queries of the dashboard and of the program for pandas."""
    dashboard = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
    panels = [one["targets"][0]["rawSql"] for one in dashboard["panels"]]
    program = runpy.run_path(str(FOLDER / "privileged_users.py"))
    return [*panels, program["QUERY"]]


def test_queries_of_the_examples_for_tools_have_answers(
    story_reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", ModuleType("pandas"))
    for query in list_queries_of_tools():
        rows = story_reader.ask(query)
        assert rows or "analytics.freshness" in query, query


def test_every_example_begins_with_its_question() -> None:
    for name, path in EXAMPLES.items():
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
        assert first.startswith("-- "), name
        assert "?" in first, name
        assert rest.rstrip().endswith(";"), name


def test_every_answer_has_its_example() -> None:
    assert {*ANSWERS, *story_examples.ANSWERS} == EXAMPLES.keys()
