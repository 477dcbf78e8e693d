"""What has no room left is named by the code that the server gives, never by its words."""

import errno
import re

import psycopg
import pytest
import redis
from kombu.exceptions import OperationalError
from psycopg import errors as postgres
from sqlalchemy.exc import OperationalError as DatabaseError

from sandbox.servers import Servers
from worker.core.errors import RetryLater, StorageFull
from worker.core.process.disk import storage_full_from_oserror
from worker.core.redis.errors import classify_redis_error
from worker.nango.kv_store import RedisStore, check_redis
from worker.nango.limiter import RateLimiter
from worker.store.errors import STATES, _translate_wrapped

PLACE = "db.example:5432/mirror"
PERSON = "Roe, Jane"


def trouble_of(state: str, said: str) -> Exception:
    kind = next(
        kind
        for kind in vars(postgres).values()
        if isinstance(kind, type) and issubclass(kind, psycopg.Error) and kind.sqlstate == state
    )
    return _translate_wrapped(DatabaseError("insert", {}, kind(said)), PLACE)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "said",
    [
        "could not extend file: No space left on device",
        "konnte Datei nicht erweitern: Auf dem Gerät ist kein Speicherplatz mehr verfügbar",
        "",
    ],
)
def test_a_shortage_is_told_by_the_sql_state_in_any_language(state: str, said: str) -> None:
    error = trouble_of(state, f"{said}\nCONTEXT: COPY users: {PERSON}")
    assert isinstance(error, RetryLater)
    assert error.after
    assert PLACE in str(error)
    assert f"SQL state {state}" in str(error)
    assert PERSON not in str(error)
    assert "cannot be reached" not in str(error)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("53100", "no space left on a disk of Postgres"),
        ("53200", "no memory left"),
        ("53400", "temp_file_limit"),
        ("58030", "fails to read or write"),
        ("XX001", "damaged data"),
        ("XX002", "REINDEX"),
    ],
)
def test_a_shortage_says_what_to_do(state: str, words: str) -> None:
    assert words in str(trouble_of(state, "x"))


@pytest.mark.parametrize("state", ["53100", "53200", "53400"])
def test_what_is_used_up_is_full_and_tried_again_in_a_minute(state: str) -> None:
    error = trouble_of(state, "x")
    assert type(error) is StorageFull
    assert error.after == 60


@pytest.mark.parametrize(
    "file",
    [
        "base/16384/2619_fsm",
        "pg_wal/xlogtemp.71",
        "pg_tblspc/16402/PG_18_202506291/5/16406.1",
        "base/pgsql_tmp/pgsql_tmp71.0",
    ],
)
def test_the_servers_own_file_tells_which_of_its_disks_is_meant(file: str) -> None:
    said = f'could not write to file "{file}": No space left on device'
    assert f"(SQL state 53100, file {file})" in str(trouble_of("53100", said))


@pytest.mark.parametrize("said", [f'row "base/{PERSON}" of "users"', f'value "{PERSON}"'])
def test_nothing_else_is_taken_from_the_servers_message(said: str) -> None:
    assert "Roe" not in str(trouble_of("53100", said))


# ---- Redis


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "memory of Redis is used up"),
        (
            "Error running script (call to f_1): @user_script:4: @user_script: 4: -OOM command",
            "memory of Redis is used up",
        ),
        ("MISCONF Valkey is configured to save RDB snapshots, but", "cannot write to its disk"),
        ("MISCONF Errors writing to the AOF file: No space left on device", "MISCONF"),
        ("Fehler im Skript: -MISCONF Errors writing to the AOF file", "MISCONF"),
    ],
)
def test_a_redis_without_room_is_told_by_its_code(said: str, words: str) -> None:
    error = classify_redis_error(redis.ResponseError(said), "it needs all")
    assert type(error) is StorageFull
    assert words in str(error)
    assert error.after


def test_a_message_that_finds_no_room_is_told_through_kombu() -> None:
    error = OperationalError("OOM command not allowed")
    error.__cause__ = redis.exceptions.OutOfMemoryError("command not allowed")
    assert type(classify_redis_error(error, "it needs all")) is StorageFull


@pytest.mark.parametrize("said", ["ERR a ROOM with OOM-proof walls", "ERR MISCONFIGURED", ""])
def test_another_answer_of_redis_is_no_shortage(said: str) -> None:
    assert not isinstance(
        classify_redis_error(redis.ResponseError(said), "it needs all"), StorageFull
    )


def test_a_redis_that_takes_nothing_in_is_found_by_writing(servers: Servers) -> None:
    with redis.Redis.from_url(servers.redis_url) as broker:
        limiter = RateLimiter(RedisStore(servers.redis_url))
        try:
            assert limiter.find_write_error() is None
            broker.config_set("maxmemory", "1")
            assert "memory of Redis is used up" in (limiter.find_write_error() or "")
            with pytest.raises(StorageFull):
                check_redis(servers.redis_url)
        finally:
            broker.config_set("maxmemory", "0")
            limiter.close()
        check_redis(servers.redis_url)


def test_what_one_process_found_used_up_is_told_to_the_others(servers: Servers) -> None:
    one, other = (RateLimiter(RedisStore(servers.redis_url)) for _ in range(2))
    try:
        one.note_shortage("no space left on Jürgen's disk")
        one.note_shortage("no space left on the disk")
        assert other.read_shortage() == "no space left on the disk"
    finally:
        one.close()
        other.close()
        with redis.Redis.from_url(servers.redis_url) as broker:  # other files share the server
            broker.delete(*broker.keys("*shortage"))


# ---- this host


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_of_this_host_is_told_with_the_file(number: int) -> None:
    error = storage_full_from_oserror(OSError(number, "Kein Platz", "/var/log/worker.log"))
    assert error is not None
    assert re.match(r"/var/log/worker\.log cannot be written: no space left", str(error))


def test_another_failure_of_a_file_is_no_full_disk() -> None:
    assert storage_full_from_oserror(OSError(errno.EACCES, "x", "/var/log/worker.log")) is None
