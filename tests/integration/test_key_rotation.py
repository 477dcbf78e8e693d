"""Nango's key is replaced under a running process, by its file."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import structs

from models.run import RunState, RunTrigger
from sandbox.servers import Servers
from sandbox.tenant import Nango
from tests.support.mirror import Mirror
from worker.core.secret import SecretStr
from worker.core.settings import Settings, load_settings
from worker.overview.budget import FollowedLimiter
from worker.store.service.facts import is_halted, is_key_changed, note_halt
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime
from worker.tasks.key_rotation import WAIT_SECONDS, KeyRotation
from worker.wiring import open_nango

OpenProcess = Callable[[], tuple[Runtime, KeyRotation]]


@pytest.fixture
def key_file(tmp_path: Path, nango: Nango, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "nango-key"
    file.write_text(f"{nango.key}\n")
    monkeypatch.setenv("NANGO_SECRET_KEY_FILE", str(file))
    first = nango.key
    yield file
    nango.key, nango.former_keys = first, set()


@pytest.fixture
def open_process(mirror: Mirror, settings: Settings, key_file: Path) -> Iterator[OpenProcess]:
    """What a process has: a runtime with the key of the file, and the rotation."""
    opened: list[Runtime] = []

    def open_one() -> tuple[Runtime, KeyRotation]:
        rotation = KeyRotation()
        read = load_settings(
            database_url=settings.database_url, nango_host=settings.nango_host, retry_seconds=0.2
        )
        opened.append(Runtime(mirror.database, open_nango(read), read))
        return opened[-1], rotation

    yield open_one
    for runtime in opened:
        runtime.nango.close()


def replace_key(file: Path, key: str) -> None:
    """Replace the file in one step, as secrets are mounted."""
    new = file.with_suffix(".new")
    new.write_text(f"{key}\n")
    new.replace(file)


def issue_key(nango: Nango) -> str:
    """Another key; the present one stays valid."""
    nango.former_keys.add(nango.key)
    nango.key = str(uuid.uuid4())
    return nango.key


def get_key(runtime: Runtime) -> str:
    assert runtime.settings.nango_secret_key is not None
    return runtime.settings.nango_secret_key.get_secret_value()


def test_slices_change_over_once_nangos_list_was_applied_with_the_new_key(
    mirror: Mirror, nango: Nango, key_file: Path, open_process: OpenProcess
) -> None:
    worker, of_worker = open_process()
    maintenance, of_maintenance = open_process()
    with mirror.database.open_transaction() as db:
        note_halt(db, "the former key was revoked too early")
    replace_key(key_file, issue_key(nango))
    assert of_worker.follow(worker, after_discovery=True) is worker
    new = of_maintenance.follow(maintenance, after_discovery=False)
    assert get_key(new) == nango.key
    with mirror.database.open_transaction() as db:
        assert is_key_changed(db, new.nango.limiter.fingerprint), "nothing is dispatched with it"
    discover(new.database, new.nango, new.settings)
    with mirror.database.open_transaction() as db:
        assert not is_key_changed(db, new.nango.limiter.fingerprint)
        assert not is_halted(db)
    nango.former_keys.clear()
    time.sleep(WAIT_SECONDS)
    changed = of_worker.follow(worker, after_discovery=True)
    assert get_key(changed) == nango.key
    assert run_slice(changed, 1, trigger=RunTrigger.SCHEDULED).state is RunState.SUCCEEDED
    assert [one for one in nango.log if one.status == 401] == []
    for runtime in (new, changed):
        runtime.nango.close()


def test_a_key_that_nango_refuses_changes_nothing(
    nango: Nango, key_file: Path, open_process: OpenProcess
) -> None:
    runtime, rotation = open_process()
    for wrong in (str(uuid.uuid4()), "not\u00a0a key", ""):
        replace_key(key_file, wrong)
        assert rotation.follow(runtime, after_discovery=False) is runtime
    assert run_slice(runtime, 1, trigger=RunTrigger.SCHEDULED).state is RunState.SUCCEEDED
    key_file.unlink()
    assert rotation.follow(runtime, after_discovery=False) is runtime
    key_file.write_text(issue_key(nango))
    changed = rotation.follow(runtime, after_discovery=False)
    assert get_key(changed) == nango.key
    assert rotation.follow(changed, after_discovery=False) is changed
    changed.nango.close()


def test_a_process_that_shows_the_budget_follows_the_key(
    nango: Nango, key_file: Path, settings: Settings, servers: Servers
) -> None:
    shared = structs.replace(settings, redis_url=SecretStr(servers.redis_url))
    limiter = FollowedLimiter(shared)
    first = limiter.get()
    assert first is not None
    assert limiter.get() is first
    replace_key(key_file, issue_key(nango))
    second = limiter.get()
    assert second is not None
    assert second.fingerprint != first.fingerprint
    limiter.close()
