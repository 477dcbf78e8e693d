"""Names mean one thing, and SQL is only where it belongs."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmarks", "migrations", "models", "sandbox", "worker")
SQL = re.compile(
    r"\s*(select\s|insert\s+into\s|update\s+\w|delete\s+from\s|with\s+(recursive\s+)?\w+(\s*\(.*?\))?"
    r"\s+as\s|create\s+(table|index|schema|view|role)\s|alter\s+\w|drop\s+\w|truncate\s|copy\s+\w+)",
    re.IGNORECASE | re.DOTALL,
)


def trees(*packages: str) -> dict[Path, ast.Module]:
    found = {
        path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8"))
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
    }
    assert found
    return found


def test_a_public_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for path, tree in trees(*PACKAGES).items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_first_line_of_every_module_says_what_it_holds() -> None:
    lines = {
        str(path): (ast.get_docstring(tree) or "").partition("\n")[0]
        for path, tree in trees("models", "sandbox", "tests/support", "worker").items()
    }
    assert [path for path, line in lines.items() if len(line) < 15 or "TODO" in line] == []


def test_sql_is_only_in_rooms_named_store_and_in_events() -> None:
    outside = {
        f"{path}:{node.lineno}"
        for path, tree in trees("worker").items()
        if "store" not in path.parts and path.parts[1] != "events"
        for imported in [imported_from_sqlalchemy(tree)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and is_statement(node, imported)
    }
    assert outside == set()


def imported_from_sqlalchemy(tree: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "sqlalchemy"
        for alias in node.names
    }


def is_statement(call: ast.Call, imported: set[str]) -> bool:
    """Whether a call makes a statement, as ``text(...)`` does, or runs one that it spells out."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    if isinstance(call.func, ast.Name):
        return name in imported & {"text", "select", "insert", "update", "delete"}
    first = call.args[0] if call.args else None
    return (
        name in ("execute", "executemany", "exec_driver_sql")
        and isinstance(first, ast.Constant | ast.JoinedStr)
        and bool(SQL.match(ast.unparse(first).strip("f\"'")))
    )
