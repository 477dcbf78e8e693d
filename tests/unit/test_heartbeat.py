"""Signs of life of a process, as a health check reads them."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from worker.core.process import heartbeat
from worker.ops.cli.health import health


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path)
    yield tmp_path
    tempfile.tempdir = before


def test_a_process_that_noted_nothing_is_not_healthy(folder: Path) -> None:
    done = CliRunner().invoke(health, ["worker"])
    assert done.exit_code == 1
    assert str(folder) in done.output


def test_who_noted_it_just_now_is_healthy_and_others_are_not() -> None:
    heartbeat.write_heartbeat("worker")
    assert CliRunner().invoke(health, ["worker"]).exit_code == 0
    assert CliRunner().invoke(health, ["relay"]).exit_code == 1
    told = CliRunner().invoke(health, ["worker", "--json"])
    assert (told.exit_code, json.loads(told.stdout)["works"]) == (0, True)
    silent = CliRunner().invoke(health, ["relay", "--json"])
    assert silent.exit_code == 1
    assert json.loads(silent.stdout) == {"name": "relay", "works": False, "age_seconds": None}
    assert CliRunner().invoke(health, ["somebody"]).exit_code == 2


@pytest.mark.parametrize("now", [10.0, 10.0004, 10.0006, 10.9999999])
def test_a_heartbeat_that_is_read_in_the_same_moment_is_there(
    now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: now)
    heartbeat.write_heartbeat("worker")
    assert heartbeat.read_heartbeat_age("worker") == 0.0


@pytest.mark.parametrize(("ago", "code"), [(59, 0), (61, 1)])
def test_what_was_noted_too_long_ago_counts_no_more(ago: int, code: int) -> None:
    heartbeat.write_heartbeat("beat")
    heartbeat.build_heartbeat_path("beat").write_text(str(time.monotonic() - ago))
    assert CliRunner().invoke(health, ["beat"]).exit_code == code


@pytest.mark.parametrize("content", ["", "soon", "9999999999999"])
def test_what_cannot_be_a_moment_of_this_host_says_nothing(content: str) -> None:
    heartbeat.write_heartbeat("beat")
    heartbeat.build_heartbeat_path("beat").write_text(content)
    assert heartbeat.read_heartbeat_age("beat") is None


def test_a_place_that_cannot_be_written_ends_no_process(folder: Path) -> None:
    heartbeat.build_heartbeat_path("relay").parent.write_text("in the way")
    heartbeat.write_heartbeat("relay")
    assert CliRunner().invoke(health, ["relay"]).exit_code == 1


def test_a_link_that_somebody_laid_is_replaced_and_not_followed(folder: Path) -> None:
    heartbeat.write_heartbeat("relay")
    target = folder / "target"
    target.write_text("mine")
    heartbeat.build_heartbeat_path("relay").unlink()
    heartbeat.build_heartbeat_path("relay").symlink_to(target)
    heartbeat.write_heartbeat("relay")
    assert target.read_text() == "mine"
    assert not heartbeat.build_heartbeat_path("relay").is_symlink()
    assert [one.name for one in heartbeat.build_heartbeat_path("relay").parent.iterdir()] == [
        "relay"
    ]
