"""The documents name only what exists, and name all of it."""

import re
import runpy
from pathlib import Path

import click
import pytest
import yaml
from msgspec import inspect

from migrations.views import VIEWS
from worker.core.config import Setting, list_settings
from worker.core.settings import SETTINGS
from worker.ops.cli import COMMANDS, cli
from worker.store.engine import Database
from worker.sync.policy import CustomerSettings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    ]
)
TESTS = {
    name
    for path in (ROOT / "tests").rglob("*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}
ALL_PAGES = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def read_text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def list_cells(page: str) -> list[list[str]]:
    """The rows of all tables of a page."""
    rows = re.findall(r"^\| (.*) \|$", without_code(read(page)), re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in rows]


# ---- links, tests and paths


def test_every_test_that_holds_a_promise_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", read("docs/reliability.md")))
    assert len(named) > 40
    assert named - TESTS == set()


def list_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = without_code(read_text(page))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@ALL_PAGES
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = without_code(read_text(page))
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
        found = page.parent / target if target else page
        assert found.exists(), target
        if anchor:
            assert anchor in list_anchors(found), f"{target}#{anchor}"


@ALL_PAGES
def test_every_path_that_is_named_exists(page: Path) -> None:
    text = read_text(page)
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    named += re.findall(r"`((?:worker|models|sandbox|migrations|tests|benchmarks)/[\w/]*)`", text)
    homes = (ROOT, ROOT / "worker")
    assert [path for path in named if not any((home / path).exists() for home in homes)] == []


def test_every_page_is_in_the_index() -> None:
    linked = re.findall(r"\]\(([\w./-]+\.md)", read("docs/README.md"))
    found = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert found - set(linked) == {"README.md"}


def test_the_readme_is_short_and_has_the_two_commands() -> None:
    text = read("README.md")
    assert text.count("\n") <= 150
    for command in ("make run", "make test"):
        assert f"\n```\n{command}\n```\n" in text


# ---- architecture


def test_every_package_of_the_worker_is_on_the_map() -> None:
    packages = {
        str(path.parent.relative_to(ROOT)) for path in (ROOT / "worker").rglob("__init__.py")
    }
    mapped = {
        name
        for cells in list_cells("docs/architecture.md")
        for name in re.findall(r"`(worker/[\w/]+)`", cells[0])
    }
    assert mapped == packages - {"worker"}


def test_every_function_in_the_order_of_a_sync_exists() -> None:
    named = 0
    for cell in (cell for cells in list_cells("docs/architecture.md") for cell in cells):
        for path, names in re.findall(r"`([\w/]+\.py)`((?: (?:or )?`\w+`)+)", cell):
            source = (ROOT / "worker" / path).read_text(encoding="utf-8")
            for name in re.findall(r"`(\w+)`", names):
                assert re.search(rf"^(?:def|class) {name}\b", source, re.MULTILINE), (path, name)
                named += 1
    assert named > 30


# ---- glossary


def test_every_word_of_the_glossary_is_used() -> None:
    pages = [page for page in PAGES if page.name != "glossary.md"]
    told = " ".join([*map(read_text, pages), *(about for _, about in COMMANDS.values())])
    text = " ".join(told.split())
    words = [cells[0] for cells in list_cells("docs/glossary.md")[2:]]
    assert words == sorted(words)
    assert len(words) > 40
    assert [word for word in words if not re.search(rf"\b{word}s?\b", text, re.IGNORECASE)] == []


# ---- reference


def render_setting(setting: Setting) -> list[str]:
    match setting.default:
        case None | ():
            default = ""
        case bool(flag):
            default = "yes" if flag else "no"
        case float(number):
            default = f"{number:g}"
        case value:
            default = str(value)
    return [f"`{setting.name}`", default, setting.description]


def test_every_setting_is_in_the_reference() -> None:
    documented = [cells for cells in list_cells("docs/reference/settings.md") if len(cells) == 3]
    rows = {cells[0]: cells for cells in documented}
    for setting in SETTINGS.values():
        row = rows[f"`{setting.name}`"]
        assert row == render_setting(setting), "write: | " + " | ".join(render_setting(setting))
    known = {f"`{setting.name}`" for setting in SETTINGS.values()}
    assert {name for name in rows if name.isupper()} - known == set()


def test_every_setting_of_a_customer_is_in_the_reference_with_its_bounds() -> None:
    documented = [cells for cells in list_cells("docs/reference/settings.md") if len(cells) == 4]
    rows = {cells[0].strip("`"): cells[1:] for cells in documented[1:]}
    declared = dict(list_settings(CustomerSettings))
    for name in ("resources", "leave_out"):
        assert f'"{name}": {{' in read("docs/reference/settings.md")
        del declared[name]
    assert rows.keys() == declared.keys()
    for name, (low, high, default) in rows.items():
        kind = declared[name].type
        if isinstance(kind, inspect.IntType):
            assert (low, high) == (f"{kind.ge:,}", f"{kind.le:,}")
            assert default == f"{SETTINGS[name].default:,g}"
        else:
            assert (low, high) == ("`false`", "`true`")
            assert default.startswith("`true`; `false` ")


def test_every_command_is_in_the_reference() -> None:
    text = read("docs/reference/commands.md")
    named = set(re.findall(r"^\| `tenant-mirror (\w[\w-]*(?: \w[\w-]*)?)", text, re.MULTILINE))
    assert {name.split()[0] for name in named} == set(COMMANDS)
    for group in ("connections", "events", "sinks", "tokens"):
        command = cli.get_command(click.Context(cli), group)
        assert isinstance(command, click.Group)
        for name in command.commands:
            assert f"{group} {name}" in named or f"`{name}`" in text, f"{group} {name}"


@pytest.mark.parametrize(
    ("page", "render"),
    [
        ("reference/resources.md", "render_resources"),
        ("reference/routes.md", "render_routes"),
        ("explanation/freshness.md", "render_freshness"),
        ("../README.md", "render_readme"),
        ("asyncapi.json", "render_asyncapi"),
        ("openapi.json", "render_openapi"),
        ("examples/README.md", "render_examples"),
    ],
)
def test_what_follows_from_the_declarations_is_up_to_date(page: str, render: str) -> None:
    scripted = runpy.run_path(str(ROOT / "scripts" / "reference.py"))
    assert read_text(DOCS / page) == scripted[render](), "run: make docs"


@pytest.mark.parametrize(
    ("page", "render"),
    [("reference/analytics.md", "render_dictionary"), ("examples/sources.yml", "render_sources")],
)
def test_the_dictionary_of_the_views_is_up_to_date(
    database: Database, page: str, render: str
) -> None:
    scripted = runpy.run_path(str(ROOT / "scripts" / "reference.py"))
    assert read_text(DOCS / page) == scripted[render](scripted["read_types"](database)), (
        "run: make docs"
    )


def test_the_sources_for_dbt_name_every_view_and_column() -> None:
    (source,) = yaml.safe_load(read("docs/examples/sources.yml"))["sources"]
    found = {one["name"]: [c["name"] for c in one["columns"]] for one in source["tables"]}
    assert found == {one.name: [c.name for c in one.columns] for one in VIEWS}
    tested = [c for one in source["tables"] for c in one["columns"] if "data_tests" in c]
    assert {c["name"] for c in tested} >= {"connection_id", "seq", "code"}
    assert [c for c in tested if re.search(r"\bnull\b", c["description"])] == []


# ---- examples


def test_the_names_that_the_sandbox_page_imports_exist() -> None:
    imports = re.findall(r"^from sandbox[^\n]+$", read("docs/sandbox.md"), re.MULTILINE)
    assert len(imports) > 1
    for line in imports:
        exec(line, {})  # noqa: S102 - our own document


def test_the_recipe_for_a_resource_stands_in_one_place() -> None:
    recipe = "docs/how-to/add-a-resource.md"
    for page in ("README.md", "CONTRIBUTING.md"):
        assert recipe.removeprefix("docs/") in read(page)
    assert [page for page in PAGES if "--rev-id" in read_text(page)] == [ROOT / recipe]
