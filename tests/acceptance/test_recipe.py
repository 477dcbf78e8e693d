"""The recipe for another resource works as it is written, in a copy of the declarations."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.resources import RESOURCES

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "docs" / "how-to" / "add-a-resource.md").read_text(encoding="utf-8")
COPIED = (
    "docs",
    "migrations",
    "models",
    "scripts",
    "tests/contract",
    "tests/samples",
    "tests/support",
)
SHARED = (".venv", "pyproject.toml", "sandbox", "tests/conftest.py", "worker")


def read_blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", RECIPE, re.MULTILINE | re.DOTALL)


def apply_diff(diff: str, path: Path) -> None:
    """Insert the added lines behind the line that the diff shows before them."""
    lines, place = path.read_text(encoding="utf-8").splitlines(), -1
    for line in diff.splitlines():
        if line.startswith("+"):
            place += 1
            lines.insert(place, line[1:])
        elif line != "...":
            place = lines.index(line[1:], place + 1)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout in which the recipe was followed up to the migration."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in SHARED:
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "README.md", tmp_path)  # `make docs` writes a table in it
    (code,), (diff,), (sample,) = map(read_blocks, ("python", "diff", "json"))
    (tmp_path / "models/resources/org_contacts.py").write_text(code, encoding="utf-8")
    apply_diff(diff, tmp_path / "models/resources/__init__.py")
    (tmp_path / "tests/samples/org_contacts.json").write_text(sample, encoding="utf-8")
    return tmp_path


def run(tree: Path, database_url: str, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree), "DATABASE_URL": database_url}
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_resource_that_is_added_by_the_recipe_works_from_end_to_end(
    tree: Path, database_url: str
) -> None:
    contract, migration = read_blocks("sh")
    run(tree, database_url, "sh", "-ec", migration)
    (written,) = (tree / "migrations/versions").glob("*_org_contacts.py")
    generated = written.read_text(encoding="utf-8")
    assert "if_not_exists=True" in generated
    assert "if_exists=True" in generated
    assert not (ROOT / "migrations/versions" / written.name).exists()
    run(tree, database_url, sys.executable, "-m", "tests.support.recipe_walk")
    run(tree, database_url, sys.executable, "scripts/reference.py")
    assert "org_contact.restored" in (tree / "docs/reference/resources.md").read_text()
    assert "org_contact.restored" in (tree / "docs/asyncapi.json").read_text()
    others = " or ".join(RESOURCES)
    run(tree, database_url, "sh", "-ec", f"{contract.strip()} -q -k 'not ({others})'")
