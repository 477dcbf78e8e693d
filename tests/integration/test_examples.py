"""The questions of docs/examples have the tenants' answers, for a role that may only read.

A new example is a file there, whose first line is the question, and a check of its answer in one of
the modules of ``tests/support/examples``.
"""

import json
import runpy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Final

import pytest
from sqlalchemy import text

from tests.support import examples, story_examples
from tests.support.analysts import Analysts, Row
from tests.support.examples import Check
from tests.support.story import StoryMirror
from worker.store.engine import Database
from worker.store.grants import render_reader_grants

FOLDER: Final = Path(__file__).parents[2] / "docs" / "examples"
EXAMPLES: Final = {path.stem: path for path in sorted(FOLDER.glob("*.sql"))}
MODULES: Final = [
    import_module(f"{examples.__name__}.{one.name}") for one in iter_modules(examples.__path__)
]
ANSWERS: Final[Mapping[str, Check]] = {
    name: check for one in MODULES for name, check in one.ANSWERS.items()
}


@contextmanager
def open_reader(database: Database, name: str) -> Iterator[str]:
    """A role with the rights that ``tenant-mirror grants`` gives."""
    with database.open_transaction() as db:
        db.execute(text(f"create role {name}"))
        grants = render_reader_grants(db, name)
    for statement in grants.replace("begin;", "").replace("commit;", "").split(";\n"):
        if statement.strip():
            with database.open_transaction() as db:
                db.execute(text(statement))
    yield name
    with database.open_transaction() as db:
        db.execute(text(f"drop owned by {name}"))
        db.execute(text(f"drop role {name}"))


@pytest.fixture(scope="module")
def reader(analysts: Analysts) -> Iterator[str]:
    with open_reader(analysts.database, "reader_of_examples") as name:
        yield name


@pytest.fixture(scope="module")
def story_reader(alpine: StoryMirror) -> Iterator[str]:
    with open_reader(alpine.database, "reader_of_the_story") as name:
        yield name


def read(database: Database, reader: str, name: str) -> list[Row]:
    """The answer of an example to a role that may only read."""
    with database.open_transaction() as db:
        db.execute(text(f"set local role {reader}"))
        found = db.execute(text(EXAMPLES[name].read_text(encoding="utf-8"))).mappings()
        return [dict(row) for row in found]


@pytest.mark.parametrize("name", ANSWERS)
def test_an_example_answers_its_question(analysts: Analysts, reader: str, name: str) -> None:
    ANSWERS[name](analysts, read(analysts.database, reader, name))


@pytest.mark.parametrize("name", story_examples.ANSWERS)
def test_an_example_answers_its_question_about_the_story(
    alpine: StoryMirror, story_reader: str, name: str
) -> None:
    pick, expected = story_examples.ANSWERS[name]
    assert [pick(row) for row in read(alpine.database, story_reader, name)] == expected


def list_queries_of_tools() -> list[str]:
    """The queries of the dashboard and of the program for pandas."""
    dashboard = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
    panels = [one["targets"][0]["rawSql"] for one in dashboard["panels"]]
    program = runpy.run_path(str(FOLDER / "privileged_users.py"))
    return [*panels, program["QUERY"]]


def test_queries_of_the_examples_for_tools_have_answers(
    alpine: StoryMirror, story_reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", ModuleType("pandas"))
    for query in list_queries_of_tools():
        with alpine.database.open_transaction() as db:
            db.execute(text(f"set local role {story_reader}"))
            rows = db.execute(text(query)).all()
        assert rows or "analytics.freshness" in query, query


def test_every_example_begins_with_its_question() -> None:
    for name, path in EXAMPLES.items():
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
        assert first.startswith("-- "), name
        assert "?" in first, name
        assert rest.rstrip().endswith(";"), name


def test_every_answer_has_its_example() -> None:
    assert {*ANSWERS, *story_examples.ANSWERS} == EXAMPLES.keys()
