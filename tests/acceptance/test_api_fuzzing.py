"""Schemathesis, with all its checks, against the API of a simulated fleet."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from sandbox.servers import Servers
from tests.acceptance.test_web_command import serving
from tests.support.fleet import fill_fleet, revive_service
from tests.support.hostile import HOSTILE_NAMES, plant_names
from worker.store.engine import Database

TOKEN = "a-token-of-the-first-hour-0123456789"
CONFIG = """
hooks = "hooks.py"

[checks.positive_data_acceptance]
# 409: an operation whose state does not fit. 422: a time in the future, a key of another list.
expected-statuses = ["2xx", 404, 409, 422]

[checks.negative_data_rejection]
# 414: a query of more than 4,096 bytes.
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 414, 415, 422, 428, 429, "5xx"]
"""
HOOKS = """
import itertools
import schemathesis

numbers = itertools.count()

@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta and getattr(case.meta.phase.data, "parameter", None) == "Authorization":
        return  # changing the case makes the fuzzer add the token that this case omits
    number = next(numbers)
    address = f"198.51.{number // 250 % 250}.{number % 250}"
    case.headers = {**(case.headers or {}), "X-Forwarded-For": address}
"""
"""Requests come from many addresses: the checks send more wrong tokens than one may."""


@contextmanager
def reporting(database: Database) -> Iterator[None]:
    """The dispatcher and a worker report, as they would every few seconds."""
    stop = Event()

    def report() -> None:
        while not stop.wait(4):
            revive_service(database)

    thread = Thread(target=report)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.timeout(400)
def test_no_request_finds_a_fault(
    database: Database, database_url: str, servers: Servers, tmp_path: Path
) -> None:
    fill_fleet(database, 40)
    plant_names(database)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    (tmp_path / "hooks.py").write_text(HOOKS)
    more = {
        "TENANT_MIRROR_WEB_PROXIES": "127.0.0.1",
        "TENANT_MIRROR_WEB_TOKEN": TOKEN,
        "REDIS_URL": servers.redis_url,
    }
    with serving(tmp_path / "log", database_url, **more) as web:
        with reporting(database):
            done = subprocess.run(
                [
                    Path(sys.executable).parent / "schemathesis",
                    *("--config-file", str(tmp_path / "schemathesis.toml")),
                    *("run", f"{web.url}/api/openapi.json"),
                    *("--header", f"Authorization: Bearer {TOKEN}"),
                    *("--checks", "all", "--mode", "all", "--max-examples", "10", "--seed", "7"),
                    *("--max-time", "40", "--request-timeout", "10", "--no-color"),
                ],
                cwd=tmp_path,
                env={
                    **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")},
                    "PYTHONPATH": str(tmp_path),
                },
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    log = web.log.read_text()
    assert "request failed" not in log
    assert not any(name in log for name in HOSTILE_NAMES if name)
