"""Metrics as node_exporter and Prometheus meet them."""

import gzip
import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.databases import DatabaseFactory
from tests.support.fork_server import COMMAND, run_command
from tests.support.mirror import Mirror
from worker.overview.metrics.definitions import METRICS

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(url: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    return {**kept, "DATABASE_URL": url}


@pytest.fixture
def run(database_url: str) -> Run:
    def call(*arguments: str, url: str = database_url) -> subprocess.CompletedProcess[str]:
        return run_command(["metrics", *arguments], environment(url))

    return call


def read(exposition: str) -> dict[str, float]:
    """Every metric, and the value of its first sample."""
    return {
        family.name + "_total" * (family.type == "counter"): family.samples[0].value
        for family in text_string_to_metric_families(exposition)
        if family.samples
    }


def test_metrics_are_printed_once(run: Run, mirror: Mirror) -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    found = read(done.stdout)
    assert found["tenant_mirror_up"] == 1
    assert found.keys() <= METRICS.keys()


def test_series_of_each_connection_are_printed_on_request(run: Run, mirror: Mirror) -> None:
    mirror.sync()
    with mirror.database.open_transaction() as db:
        db.exec_driver_sql("update sync.connections set display_name = e'Con\\n\u202e\"toso'")
    assert "connection=" not in run().stdout
    exposition = run("--per-connection").stdout
    assert [line for line in exposition.splitlines() if not line.isprintable()] == []
    families = {one.name: one.samples for one in text_string_to_metric_families(exposition)}
    (info,) = families["tenant_mirror_connection_info"]
    assert info.labels["connection"] == "1"
    assert info.labels["organization"].endswith('"toso')
    ages = families["tenant_mirror_connection_age_seconds"]
    assert {"users", "group_members"} <= {one.labels["resource"] for one in ages}
    assert all(one.value >= 0 for one in ages)


def test_a_file_is_written_in_one_step(run: Run, mirror: Mirror, tmp_path: Path) -> None:
    file = tmp_path / "tenant_mirror.prom"
    file.write_text("an older one")
    before = file.stat().st_ino
    done = run("--output", str(file))
    assert (done.returncode, done.stdout) == (0, "")
    assert read(file.read_text())["tenant_mirror_up"] == 1
    assert file.stat().st_ino != before, "another file took its place"
    assert list(tmp_path.iterdir()) == [file]
    missing = run("--output", str(tmp_path / "none" / "x.prom"))
    assert missing.returncode == 2
    assert "cannot write" in missing.stderr


@pytest.mark.parametrize("broken", ["away", "empty"])
def test_a_database_that_cannot_be_read_is_told_without_a_traceback(
    run: Run, cluster: DatabaseFactory, tmp_path: Path, broken: str
) -> None:
    url = NOWHERE if broken == "away" else cluster.create_empty()
    file = tmp_path / "x.prom"
    for arguments in ((), ("--output", str(file))):
        done = run(*arguments, url=url)
        assert done.returncode == 1
        assert read(done.stdout or file.read_text()) == {"tenant_mirror_up": 0}
        assert ("cannot be reached" if broken == "away" else "run 'tenant-mirror migrate'") in (
            done.stderr
        )
        assert "Traceback" not in done.stderr


@contextmanager
def serving(url: str, listen: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and the address that it says it serves."""
    with subprocess.Popen(
        [*COMMAND, "metrics", "--listen", listen],
        env=environment(url),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            said = json.loads(process.stderr.readline())
            assert said["event"] == "serving"
            yield process, said["url"]
        finally:
            process.kill()


def fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as reply:  # noqa: S310 - our own address
        assert reply.headers["content-type"].startswith("text/plain; version=")
        return str(reply.read().decode())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_metrics_are_served_until_told_to_stop(
    database_url: str, mirror: Mirror, number: signal.Signals
) -> None:
    with serving(database_url, "127.0.0.1:0") as (process, address):
        for _ in range(2):
            assert read(fetched(f"{address}/metrics"))["tenant_mirror_up"] == 1
        wanted = {"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"}
        request = urllib.request.Request(f"{address}/metrics", headers=wanted)  # noqa: S310
        with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310 - our own address
            assert reply.headers["content-type"].startswith("application/openmetrics-text")
            assert gzip.decompress(reply.read()).endswith(b"# EOF\n")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetched(f"{address}/else")
        process.send_signal(number)
        assert process.wait(20) == 0


def test_the_server_outlives_its_database(database_url: str, cluster: DatabaseFactory) -> None:
    with serving(NOWHERE, "127.0.0.1:0") as (process, address):
        assert read(fetched(f"{address}/metrics")) == {"tenant_mirror_up": 0}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        left = process.stderr.read()
    assert "cannot be reached" in left
    assert "Traceback" not in left


def test_a_silent_client_holds_nobody_up(database_url: str, mirror: Mirror) -> None:
    with serving(database_url, "127.0.0.1:0") as (process, address):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))):
            assert read(fetched(f"{address}/metrics"))["tenant_mirror_up"] == 1
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_addresses_that_cannot_be_are_refused(run: Run, database_url: str) -> None:
    for listen in ("9465", "localhost", ":9465", "::1:9465", "127.0.0.1:http", "127.0.0.1:70000"):
        done = run("--listen", listen)
        assert done.returncode == 2, listen
        assert "--listen" in done.stderr
    both = run("--listen", "127.0.0.1:0", "--output", "x")
    assert both.returncode == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 2
    assert "cannot listen" in done.stderr
    assert "Traceback" not in done.stderr
