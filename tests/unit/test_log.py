"""Secrets do not get into logs."""

import json
import subprocess
import sys

import pytest

from worker.core.log import redact_secrets


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://u:hunter2@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("redis://:hunter2@h/0", "redis://:***@h/0"),
        (
            "to postgres://u:hunter2@h and redis://x:hunter2@y",
            "to postgres://u:***@h and redis://x:***@y",
        ),
        ("postgresql+psycopg://u:hun%40ter2@h", "postgresql+psycopg://u:***@h"),
        ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
        ("authorization: bearer hunter2 next", "authorization: bearer *** next"),
        ("/users/delta?$deltatoken=hunter2&x=1", "/users/delta?$deltatoken=***&x=1"),
        ("/users?$skiptoken=hunter2", "/users?$skiptoken=***"),
        ("/users?$skipToken=hunter2 failed", "/users?$skipToken=*** failed"),
        ("/users?%24deltaToken=hunter2'", "/users?%24deltaToken=***'"),
        (
            "unix:///run/redis.sock?password=hunter2&db=1",
            "unix:///run/redis.sock?password=***&db=1",
        ),
        ("/sites/delta?token=hunter2", "/sites/delta?token=***"),
        ("'$deltatoken=a' and \"$skiptoken=b\"", "'$deltatoken=***' and \"$skiptoken=***\""),
    ],
)
def test_a_secret_is_taken_out(text: str, clean: str) -> None:
    assert redact_secrets(text) == clean
    assert "hunter2" not in redact_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3 pages of users",
        "https://nango.example:3003/proxy/v1.0/users",
        "postgresql://h:5432/d",
        "the token of a connection",
        "at 12:30@noon",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_secrets(text) == text


def test_scrubbing_twice_changes_nothing() -> None:
    once = redact_secrets("redis://:a@h $deltatoken=b Bearer c")
    assert redact_secrets(once) == once


SCRIPT = """
import logging
from worker.core.log import configure_logging, get_logger
configure_logging("INFO", "json")
log = get_logger()
log.info("opened", url="redis://:hunter2@h", count=3)
log.info("failed", error=ValueError("postgresql://u:hunter2@h"))
log.info("several", links=["/users?$skiptoken=hunter2"], more={"a": "Bearer hunter2"})
try:
    raise ValueError("postgresql://u:hunter2@h")
except ValueError:
    log.exception("ended")
    logging.getLogger("library").exception("with %s", "$deltatoken=hunter2")
logging.getLogger("library").warning("Bearer %s", "hunter2")
logging.getLogger("httpx").info("GET https://graph.microsoft.com/v1.0/users?$skiptoken=hunter2")
for chatty in ("celery", "celery.beat", "celery.worker.strategy", "kombu", "library"):
    logging.getLogger(chatty).info("small talk")
log.debug("too much")
"""


@pytest.fixture(scope="module")
def logged() -> str:
    """What a process of its own writes, since logging is configured for a whole process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""
    return done.stderr


HOSTILE_SCRIPT = """
import logging, sys
from worker.core.log import configure_logging, get_logger
configure_logging("INFO", sys.argv[1])
name = "a\\x1b[31m\\nb\\x9b2J\\u202e\\r"
log = get_logger()
log.info(name, customer=name, several=[name], more={name: name})
logging.getLogger("library").warning("%s is odd", name)
try:
    raise ValueError(name)
except ValueError:
    log.exception("ended")
"""


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_names_from_outside_cannot_control_a_terminal_or_forge_a_line(fmt: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE_SCRIPT, fmt],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = done.stderr.split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert sum("is odd" in line for line in lines) == 1
    assert len(lines) < 20


def test_logs_are_one_json_object_a_line(logged: str) -> None:
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [line["event"] for line in lines][:3] == ["opened", "failed", "several"]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert lines[0]["count"] == 3
    assert "too much" not in logged


def test_what_libraries_chat_is_left_out(logged: str) -> None:
    assert "graph.microsoft.com" not in logged
    assert "small talk" not in logged


def test_secrets_in_values_and_tracebacks_are_taken_out(logged: str) -> None:
    by_event = {json.loads(line)["event"]: line for line in logged.splitlines()}
    for event in ("opened", "ended", "Bearer ***"):
        assert "hunter2" not in by_event[event]


@pytest.mark.parametrize("event", ["failed", "several"])
def test_secrets_in_exceptions_and_collections_are_taken_out(logged: str, event: str) -> None:
    (line,) = [one for one in logged.splitlines() if json.loads(one)["event"] == event]
    assert "hunter2" not in line


AT_NEED = """
import logging, sys
from worker.core.log import configure_logging_lazily, get_logger
configure_logging_lazily("WARNING", "console")
logging.getLogger("library").info("small talk")
assert "structlog" not in sys.modules
{first}
assert "structlog" in sys.modules
get_logger().warning("away", url="redis://:hunter2@h")
logging.getLogger("library").warning("Bearer %s", "hunter2")
get_logger().info("too much")
"""


@pytest.mark.parametrize(
    "first", ["get_logger().warning('first')", "logging.getLogger('library').warning('first')"]
)
def test_logging_that_is_put_off_logs_the_same_from_the_first_line(first: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_NEED.format(first=first)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    said = done.stderr.splitlines()
    assert done.stdout == ""
    assert all(word in line for word, line in zip(("first", "away", "***"), said, strict=True))
    assert "hunter2" not in done.stderr
