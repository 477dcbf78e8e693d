"""Real errors of Postgres about a person's row: their SQL state is shown, the row never."""

import json
import logging
import pickle
import subprocess
import sys
import traceback
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import create_engine, text

from tests.support.databases import DatabaseFactory
from tests.support.postgres_errors import (
    CANARY,
    CREATE_TABLES,
    DIGITS,
    PROVOCATIONS,
    parse_sql_state,
)
from worker.core.error_text import redact_database_text, render_error, render_traceback
from worker.core.log import configure_logging, get_logger
from worker.store.engine import Database
from worker.store.errors import get_sql_state, is_data_error


@pytest.fixture(scope="module")
def people(cluster: DatabaseFactory) -> Iterator[Database]:
    """Tables with rules that rows about a person break."""
    url = cluster.create_empty()
    with psycopg.connect(url) as connection:
        connection.execute(CREATE_TABLES.encode())
    database = Database(url)
    yield database
    database.close()
    cluster.drop(url)


def quotes(said: str) -> list[str]:
    """What of the person is in a text, also where it is escaped."""
    parts = (CANARY, CANARY.partition("-")[0], DIGITS, DIGITS[:12])
    return [part for part in parts if part in said]


@pytest.mark.parametrize("name", PROVOCATIONS)
def test_what_leaves_a_transaction_has_the_sql_state_and_no_row(
    people: Database, name: str
) -> None:
    with pytest.raises(Exception) as caught:
        PROVOCATIONS[name](people)
    error = caught.value
    trace = "".join(traceback.format_exception(error))
    for said in (str(error), repr(error), trace, repr(vars(error)), str(pickle.dumps(error))):
        assert quotes(said) == []
    assert parse_sql_state(name) in trace
    assert error.__cause__ is None
    assert error.__suppress_context__
    if isinstance(error, psycopg.Error) and parse_sql_state(name):
        assert get_sql_state(error) == parse_sql_state(name)
        assert get_sql_state(pickle.loads(pickle.dumps(error))) == parse_sql_state(name)  # noqa: S301 - ours


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("23505", ("schema public", "table people", "constraint people_name_key")),
        ("23502", ("table people", "column id")),
        ("23514", ("table people", "constraint people_are_named")),
        ("23503", ("table people", "constraint people_place_fkey")),
        ("23502 copy", ("table lines", "column name")),
    ],
)
def test_names_are_told(people: Database, name: str, told: tuple[str, ...]) -> None:
    with pytest.raises(psycopg.Error) as caught:
        PROVOCATIONS[name](people)
    assert all(one in str(caught.value) for one in told)


@pytest.mark.parametrize("name", ["23505", "22P02 copy", "22001", "encoding", "no SQL state: NUL"])
def test_errors_about_data_are_still_known_as_such(people: Database, name: str) -> None:
    with pytest.raises(Exception) as caught:
        PROVOCATIONS[name](people)
    assert is_data_error(caught.value)


# ---- the second line: errors that came past the first


def raw_faults(url: str) -> Iterator[tuple[str, Exception]]:
    """Errors as the driver and SQLAlchemy raise them, where nothing translates them."""
    engine = create_engine(Database(url).url)
    bad = {
        "23505": "insert into public.people (id, name) values (3, '{}')",
        "22P02": "select cast('{}' as uuid)",
        "P0001": "insert into public.raising (name, short) values ('{}', 'P0001')",
    }
    for state, statement in bad.items():
        for passed in ("driver", "wrapper"):
            try:
                if passed == "driver":
                    with psycopg.connect(url) as connection:
                        connection.execute(statement.format(CANARY).encode())
                else:
                    with engine.begin() as wrapped:
                        wrapped.execute(text(statement.replace("'{}'", ":name")), {"name": CANARY})
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                yield state, error
    engine.dispose()


def chained(fault: Exception) -> list[BaseException]:
    """Failures that carry one in every way there is."""
    after, beside = RuntimeError("after"), RuntimeError("beside")
    after.__cause__, beside.__context__ = fault, fault
    noted = pickle.loads(pickle.dumps(fault))  # noqa: S301 - ours
    noted.add_note(f"with {CANARY}")
    return [fault, after, beside, noted, ExceptionGroup("several", [ValueError("x"), fault])]


def log_everything(url: str) -> None:
    """Called in a process of its own: every way to log every kind of failure."""
    configure_logging("DEBUG", "json")
    library = logging.getLogger("library")
    for state, raw in raw_faults(url):
        for error in chained(raw):
            about = {"state": state}
            get_logger().error("ended", exc_info=error, **about)
            get_logger().warning("failed", error=error, errors=[error], more={"a": error}, **about)
            library.error("%s ended", state, exc_info=error)
            library.error("%s failed: %r, %s", state, error, error)
            library.error("%(state)s failed: %(fault)r", {"fault": error, "state": state})
            library.error(f"{state} raised unexpected: {raw!r}", exc_info=error)
            library.error(f"{state} failed: {raw}")


@pytest.fixture(scope="module")
def logged(people: Database) -> list[str]:
    script = "import sys; from tests.integration.test_database_errors import log_everything as log"
    address = people.url.render_as_string(hide_password=False).replace("+psycopg", "")
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; log(sys.argv[1])", address],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_a_log_never_quotes_a_row_in_any_chain(logged: list[str]) -> None:
    lines = [json.loads(line) for line in logged]
    assert len(lines) == 3 * 2 * 5 * 7
    for line in lines:
        assert quotes(json.dumps(line)) == [], line
        state = line.get("state") or line["event"][:5]
        assert state in ("23505", "22P02", "P0001")
        if "exception" in line:
            assert f"SQL state {state}" in line["exception"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_sqlalchemy_logs_no_rows_at_debug(people: Database, form: str) -> None:
    script = """
import sys
from sqlalchemy import text
from worker.core.log import configure_logging
from worker.store.engine import Database
configure_logging("DEBUG", sys.argv[2])
with Database(sys.argv[1]).open_transaction() as connection:
    list(connection.execute(text("select name, :x from public.people"), {"x": sys.argv[3]}))
"""
    address = people.url.render_as_string(hide_password=False).replace("+psycopg", "")
    done = subprocess.run(
        [sys.executable, "-c", script, address, form, CANARY],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert quotes(done.stdout + done.stderr) == []


UNCAUGHT = """
import sys, threading
import psycopg
from worker.core.log import install_exception_hooks
install_exception_hooks()
def fail():
    with psycopg.connect(sys.argv[1]) as connection:
        connection.execute("insert into public.people (id, name) values (3, '" + sys.argv[2] + "')")
class Late:
    def __del__(self):
        fail()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
late = Late()
del late
fail()
"""


def test_what_nothing_catches_is_printed_without_the_row(people: Database) -> None:
    address = people.url.render_as_string(hide_password=False).replace("+psycopg", "")
    done = subprocess.run(
        [sys.executable, "-c", UNCAUGHT, address, CANARY],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.count("SQL state 23505") == 3
    assert quotes(done.stderr) == []


def test_text_that_quotes_an_error_is_cut(people: Database) -> None:
    """Where only the text of a failure is left, as in what a child process sent its parent."""
    url = people.url.render_as_string(hide_password=False).replace("+psycopg", "")
    for _, error in raw_faults(url):
        trace = "".join(traceback.format_exception(error))
        for said in (trace, repr(trace), f"beside {trace}"):
            assert quotes(redact_database_text(said)) == []
        assert quotes(render_traceback(error)) == []
        assert quotes(render_error(error)) == []
