"""No module of the worker names a mirrored resource, except where its subject is that resource."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from models.resources import RESOURCES

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = "models.resources"
NAMES: Final = "|".join(RESOURCES)
IN_SQL: Final = re.compile(rf"\bdirectory\.(?:{NAMES})\b|'(?:{NAMES})'")
CONSTANTS: Final = {name.upper() for name in RESOURCES}

PEOPLE: Final = "a person is known by names as well, and sites may be named after a person"
PROBE: Final = "tests what Tenant Mirror assumes about these very resources"

EXCEPTIONS: Final = {
    "worker/erasure/store/lookup.py": PEOPLE,
    "worker/probe/answers.py": PROBE,
    "worker/probe/further.py": PROBE,
    "worker/probe/read_checks.py": PROBE,
    "worker/probe/requests.py": PROBE,
}
"""The modules that may name resources, with the reason."""

COUNTS: Final = {PEOPLE: 4, PROBE: 68}
"""How often they do. Lower a number when it falls; raise none without a good reason."""


def iterate_docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for one in body if isinstance(body, list) else []:
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                yield one.value


def find_names(source: str) -> list[str]:
    """Return the resources that a module names: in texts, SQL, constants and imports."""
    tree = ast.parse(source)
    docstrings = {id(one) for one in iterate_docstrings(tree)}
    return [
        name for node in ast.walk(tree) if id(node) not in docstrings for name in list_names(node)
    ]


def list_names(node: ast.AST) -> list[str]:
    match node:
        case ast.Constant(value=str() as value):
            return [value] if value in RESOURCES else IN_SQL.findall(value)
        case ast.ImportFrom(module=str() as module) if module.startswith(f"{PACKAGE}."):
            return [module]
        case ast.Import() | ast.ImportFrom():
            return [
                one.name for one in node.names if one.name.removeprefix(f"{PACKAGE}.") in RESOURCES
            ]
        case ast.Name(id=name, ctx=ast.Load()) if name in CONSTANTS:
            return [name]
    return []


def read_modules() -> dict[str, list[str]]:
    """Return the names by module, of the modules that name a resource."""
    paths = sorted((ROOT / "worker").rglob("*.py"))
    found = {str(path.relative_to(ROOT)): find_names(path.read_text("utf-8")) for path in paths}
    return {module: names for module, names in found.items() if names}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('x = "users"', ["users"]),
        ('"""Users and "groups"."""\nx = "all users"', []),
        ("x = \"select from directory.groups where resource = 'sites'\"", None),
        ('x = f"delete from directory.{name}"', []),
        ('x = f"select from directory.users where id = {one}"', ["directory.users"]),
        ("x = USERS.name", ["USERS"]),
        ("from models.resources.sites import SITES", ["models.resources.sites"]),
        ("from models.resources import RESOURCES", []),
        ("from models.resources import sites", ["sites"]),
        ("import models.resources.sites", ["models.resources.sites"]),
        ("def f():\n    'users'\n    return 'users'", ["users"]),
    ],
)
def test_names_are_found_in_texts_sql_constants_and_imports(
    source: str, names: list[str] | None
) -> None:
    wanted = ["directory.groups", "'sites'"] if names is None else names
    assert find_names(source) == wanted


def test_only_modules_whose_subject_it_is_name_a_resource() -> None:
    found = read_modules()
    told = {module: names for module, names in found.items() if module not in EXCEPTIONS}
    assert told == {}, "let the declaration in models/resources say it"
    assert EXCEPTIONS.keys() - found.keys() == set(), "no exception any more: remove it"


def test_the_exceptions_are_counted() -> None:
    counts = Counter[str]()
    for module, names in read_modules().items():
        counts[EXCEPTIONS.get(module, "")] += len(names)
    assert counts == COUNTS
