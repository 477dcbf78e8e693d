"""The questions of docs/examples have the tenants' answers, for a role that may only read.

A new example is a file there, whose first line is the question, and a check of its answer in one of
the modules of ``tests/support/examples``.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

import pytest
from sqlalchemy import text

from tests.support import examples
from tests.support.analysts import Analysts
from tests.support.examples import Check
from worker.store.grants import render_reader_grants

FOLDER: Final = Path(__file__).parents[2] / "docs" / "examples"
EXAMPLES: Final = {path.stem: path for path in sorted(FOLDER.glob("*.sql"))}
MODULES: Final = [
    import_module(f"{examples.__name__}.{one.name}") for one in iter_modules(examples.__path__)
]
ANSWERS: Final[Mapping[str, Check]] = {
    name: check for one in MODULES for name, check in one.ANSWERS.items()
}
READER: Final = "reader_of_examples"


@pytest.fixture(scope="module")
def reader(analysts: Analysts) -> Iterator[str]:
    """A role with the rights that ``tenant-mirror grants`` gives."""
    with analysts.database.open_transaction() as db:
        db.execute(text(f"create role {READER}"))
        grants = render_reader_grants(db, READER)
    for statement in grants.replace("begin;", "").replace("commit;", "").split(";\n"):
        if statement.strip():
            with analysts.database.open_transaction() as db:
                db.execute(text(statement))
    yield READER
    with analysts.database.open_transaction() as db:
        db.execute(text(f"drop owned by {READER}"))
        db.execute(text(f"drop role {READER}"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_answers_its_question(analysts: Analysts, reader: str, name: str) -> None:
    with analysts.database.open_transaction() as db:
        db.execute(text(f"set local role {reader}"))
        found = db.execute(text(EXAMPLES[name].read_text(encoding="utf-8"))).mappings()
        rows = [dict(row) for row in found]
    ANSWERS[name](analysts, rows)


def test_every_example_begins_with_its_question() -> None:
    for name, path in EXAMPLES.items():
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
        assert first.startswith("-- "), name
        assert "?" in first, name
        assert rest.rstrip().endswith(";"), name


def test_every_answer_has_its_example() -> None:
    assert ANSWERS.keys() == EXAMPLES.keys()
