"""Variables of Celery never win over our settings: the start refuses them by name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.core.errors import ConfigurationError
from worker.tasks.celery_environment import refuse_celery_variables


@pytest.mark.parametrize(
    "name",
    [
        "CELERY_BROKER_URL",
        "CELERY_BROKER_READ_URL",
        "CELERY_BROKER_WRITE_URL",
        "CELERY_RESULT_BACKEND",
        "CELERY_CONFIG_MODULE",
        "CELERY_LOADER",
        "CELERY_WORKER_POOL",
        "CELERY_WORKER_QUEUES",
        "CELERY_BEAT_SCHEDULER",
        "CELERY_CUSTOM_WORKER_POOL",
    ],
)
def test_a_variable_of_celery_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as refused:
        refuse_celery_variables({name: "redis://:hunter2@h", "PATH": "/"})
    assert "hunter2" not in str(refused.value)


def test_what_is_empty_or_set_by_celery_itself_is_accepted() -> None:
    refuse_celery_variables(
        {"CELERY_BROKER_URL": "", "CELERY_LOG_LEVEL": "20", "CELERYX": "1", "BROKER_URL": "x"}
    )


@pytest.mark.parametrize(
    ("program", "variable"),
    [
        ("beat", "CELERY_BROKER_URL"),
        ("worker", "BROKER_URL"),
        ("worker", "CELERY_WORKER_CONCURRENCY"),
    ],
)
def test_beat_and_workers_refuse_to_start_with_one_in_a_sentence(
    program: str, variable: str
) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "--app", "worker.app", program],
        env={**kept, "REDIS_URL": "redis://h", variable: "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(
        f"Error: {variable} would override Tenant Mirror's configuration of Celery"
    )


def test_a_wrong_setting_ends_beat_and_workers_in_a_sentence() -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "--app", "worker.app", "beat"],
        env={**kept, "REDIS_URL": "http://:hunter2@h"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: REDIS_URL: must start with redis://")


def test_the_command_that_runs_everything_refuses_them_as_well(tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("tenant-mirror")), "up"],
        env={**kept, "TENANT_MIRROR_HOME": str(tmp_path), "CELERY_BROKER_URL": "redis://h"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "CELERY_BROKER_URL would override" in line
    assert not list(tmp_path.iterdir())
