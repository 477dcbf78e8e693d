"""What is written down twice agrees: Procfile, compose, image, locks and wheel against the code."""

import ast
import importlib.metadata
import re
import shlex
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from models.queues import ALL_QUEUES
from worker.app import app
from worker.core.errors import ConfigurationError
from worker.core.process import heartbeat
from worker.core.settings import SETTINGS, load_settings

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("migrations", "models", "sandbox", "worker")
LOCKS = ("requirements.lock", "requirements-dev.lock")

PROCFILE = dict(
    line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line
)
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: it for name, it in SERVICES.items() if it["image"].startswith("tenant-mirror:")}
DOCKERFILE = (ROOT / "Dockerfile").read_text()

NOT_SETTINGS = {
    "DATABASE_PASSWORD_FILE": "of deploy/postgres-role.sql, which makes the service's role",
    "NANGO_SECRET_KEY_PATH": "where Compose finds the key's file",
    "PATH": "of the image",
    "POSTGRES_INITDB_ARGS": "of the Postgres image",
    "POSTGRES_PASSWORD_FILE": "of the Postgres image",
    "PIP_DISABLE_PIP_VERSION_CHECK": "of the build",
    "PIP_NO_CACHE_DIR": "of the build",
    "PIP_ROOT_USER_ACTION": "of the build",
    "PYTHONDONTWRITEBYTECODE": "of Python",
    "PYTHONUNBUFFERED": "of Python",
    "WEB_ADDRESS": "where Compose publishes the API",
    "WEB_PORT": "where Compose publishes the API",
    "TENANT_MIRROR_BACKFILL_CONCURRENCY": "a part of a worker's command line",
    "TENANT_MIRROR_CONCURRENCY": "a part of the worker's command line",
}


def consumed(command: str) -> list[str]:
    words = shlex.split(command)
    return words[words.index("--queues") + 1].split(",") if "--queues" in words else []


@pytest.mark.parametrize(
    "commands",
    [PROCFILE, {name: it["command"] for name, it in OURS.items()}],
    ids=["Procfile", "compose"],
)
def test_every_queue_is_consumed_by_exactly_one_process_type(commands: dict[str, str]) -> None:
    assert Counter(q for it in commands.values() for q in consumed(it)) == Counter(ALL_QUEUES)


def test_the_tick_has_a_worker_to_itself() -> None:
    assert consumed(PROCFILE["maintenance"]) == ["maintenance"]


@pytest.mark.parametrize("process", ["worker", "maintenance"])
def test_first_loads_have_a_worker_to_themselves(process: str) -> None:
    assert consumed(PROCFILE["backfill"]) == ["backfill"]
    assert "backfill" not in consumed(PROCFILE[process])


def test_procfile_and_compose_run_the_same_commands() -> None:
    written = dict(PROCFILE)
    written["migrate"] = written.pop("release")
    assert written == {name: it["command"] for name, it in OURS.items()}


def test_every_service_of_ours_waits_for_the_migration_and_is_watched() -> None:
    for name, service in OURS.items():
        if name == "migrate":
            continue
        wanted = service["depends_on"]
        assert wanted["migrate"] == {"condition": "service_completed_successfully"}
        assert wanted["postgres"] == wanted["valkey"] == {"condition": "service_healthy"}
        assert service["healthcheck"]["test"] == ["CMD", "tenant-mirror", "health", name]
        assert name in heartbeat.PROCESS_NAMES
        node = re.search(r"--hostname (\w+)@%h", service["command"])
        assert node is None or node[1] == name, "the name under which it notes that it works"


def test_no_secret_is_in_a_variable_or_on_a_command_line() -> None:
    given = {name: it.get("environment", {}) for name, it in SERVICES.items()}
    for name, variables in given.items():
        plain = [one for one in variables if re.search("PASSWORD|SECRET|URL", one)]
        assert all(one.endswith("_FILE") for one in plain), name
        for one in plain:
            mounted = variables[one].removeprefix("/run/secrets/")
            assert mounted in SERVICES[name]["secrets"], one
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.search(r"(?i)\$\{?\w*(password|secret_key\b)", text)
    for it in SERVICES.values():
        assert set(it.get("secrets", ())) <= COMPOSE["secrets"].keys()


def test_a_worker_may_end_its_slice_before_it_is_killed() -> None:
    patience = int(OURS["worker"]["stop_grace_period"].removesuffix("s"))
    with pytest.raises(ConfigurationError, match="TENANT_MIRROR_SLICE_SECONDS: "):
        load_settings(slice_seconds=patience)


def test_containers_get_no_more_than_they_need() -> None:
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    for name, service in SERVICES.items():
        assert re.search(r":\d+\.\d+(\.\d+)?$", service["image"]), f"{name}: pin the image"


def environment_of_compose() -> set[str]:
    keys = {name for it in SERVICES.values() for name in it.get("environment", {})}
    text = (ROOT / "docker-compose.yml").read_text()
    return keys | set(re.findall(r"\$\$?\{?([A-Z][A-Z0-9_]*)", text))


def environment_of_dockerfile() -> set[str]:
    block = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    return set(re.findall(r"\b([A-Z][A-Z0-9_]*)=", "\n".join(block)))


def test_every_environment_name_is_a_setting() -> None:
    settings = {setting.name for setting in SETTINGS.values()}
    known = settings | {f"{name}_FILE" for name in settings} | NOT_SETTINGS.keys()
    used = {
        "Procfile": set(re.findall(r"\$\{?([A-Z][A-Z0-9_]*)", "\n".join(PROCFILE.values()))),
        "compose": environment_of_compose(),
        "Dockerfile": environment_of_dockerfile(),
    }
    assert all(used.values())
    assert {where: names - known for where, names in used.items() if names - known} == {}
    assert NOT_SETTINGS.keys() - set().union(*used.values()) == set()


def test_every_beat_entry_names_a_task_and_a_queue_and_never_expires() -> None:
    """A message would expire by beat's clock, and a worker with another one would drop it."""
    app.loader.import_default_modules()
    assert app.conf.beat_schedule
    for name, entry in app.conf.beat_schedule.items():
        assert entry["task"] in app.tasks, name
        assert entry["options"]["queue"] in ALL_QUEUES, name
        assert entry["options"].keys() == {"queue"}, name


def requirements(lock: str) -> list[str]:
    """The entries of a lock, each on one line with its hashes."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_and_hashes_everything_and_names_no_index(lock: str) -> None:
    entries = requirements(lock)
    assert entries
    for entry in entries:
        assert re.match(
            r"[a-z0-9][a-z0-9.-]*==\S+( ;.*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*$", entry
        )
    assert "://" not in (ROOT / lock).read_text()


def test_the_dev_lock_holds_the_runtime_lock() -> None:
    runtime, dev = (set(requirements(lock)) for lock in LOCKS)
    assert runtime < dev


def test_the_image_builds_with_the_whole_build_backend() -> None:
    """The Dockerfile takes it from the lock by name."""
    wanted: set[str] = set()
    found = {"hatchling"}
    while new := found - wanted:
        wanted |= new
        for name in new:
            parsed = map(Requirement, importlib.metadata.requires(name) or [])
            found |= {it.name for it in parsed if not it.marker or it.marker.evaluate()}
    named = re.search(r"keep = /\^\((.*)\)==/", DOCKERFILE)
    assert named
    assert set(named[1].split("|")) == wanted


def test_the_wheel_carries_what_is_not_python(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        entry_points = next(name for name in packed if name.endswith("entry_points.txt"))
        assert "tenant-mirror = worker.ops.cli:main" in archive.read(entry_points).decode()
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "migrations/alembic.ini" in ours
    assert ours <= packed
    assert {name.split("/")[0] for name in packed if ".dist-info/" not in name} == set(PACKAGES)


def modules(*packages: str) -> list[Path]:
    found = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert found
    return [path for path in found if path.parent != ROOT / "migrations" / "versions"]


def test_no_module_is_longer_than_350_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): length
        for path in modules(*PACKAGES)
        if (length := len(path.read_text(encoding="utf-8").splitlines())) > 350
    }
    assert long == {}


PRINTERS = (
    ROOT / "worker" / "ops",
    ROOT / "sandbox" / "tenant" / "cli.py",
    ROOT / "sandbox" / "tenant" / "__main__.py",
    ROOT / "sandbox" / "servers" / "launch.py",  # speaks before it becomes the server
)


def test_only_commands_print() -> None:
    printing = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules(*PACKAGES)
        if not any(path.is_relative_to(printer) for printer in PRINTERS)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert printing == []


def test_ci_runs_the_tests_as_the_readme_does() -> None:
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    assert any(line.startswith("make test ") or line == "make test" for line in commands)
