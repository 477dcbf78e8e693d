"""The dictionary of schema ``analytics``, as a page of the reference and as sources of dbt.

https://docs.getdbt.com/reference/source-properties
"""

import json
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from migrations.views import FUNCTIONS, VIEWS
from migrations.views.findings import FINDING_KINDS
from migrations.views.function import AnalyticsFunction
from migrations.views.view import SCHEMA, AnalyticsView, Column
from models.privilege import privileged_actions, privileged_permissions, privileged_roles
from models.product_name import product_names

Types: TypeAlias = Mapping[str, Mapping[str, str]]
"""Postgres's names of the types of columns, by view or table, as a database has them."""

_TABLES: Final = (product_names, privileged_roles, privileged_actions, privileged_permissions)

_FRESH_BY_RESOURCE: Final = ("freshness", "coverage")
"""Views whose newest ``fresh_at`` is of a resource that is read every few minutes. Others have that
of what is read once a day: of products, or of the resource that was read longest ago."""

_HEAD: Final = """\
# The views for analysts

Every view, function and table of schema `analytics`. `make docs` writes this page and
[sources.yml](../examples/sources.yml), for dbt, from the declarations in `migrations/views/`; edit
those. The meaning of each column is also its comment in Postgres. *Personal* columns can say
something about a person. [Tables, views and columns](../analytics.md) explains them, with examples.
"""


def render_dictionary(types: Types) -> str:
    """Return the page."""
    parts = [_HEAD]
    parts += [_render_view(one, types[one.name]) for one in sorted(VIEWS, key=lambda v: v.name)]
    parts += ["## Kinds of findings\n", _render_findings()]
    parts += ["## Functions\n", *(_render_function(one) for one in FUNCTIONS)]
    parts += ["## Tables\n", _render_tables(types)]
    return "\n".join(parts)


def _render_view(view: AnalyticsView, types: Mapping[str, str]) -> str:
    key = ", ".join(f"`{one}`" for one in view.key)
    lines = [f"## {view.name}\n", f"{view.meaning}."]
    lines += [f"A row is identified by {key}."] if key else []
    lines += ["", "| column | type | meaning | personal |", "|---|---|---|---|"]
    lines += [_render_column(one, types[one.name]) for one in view.columns]
    return "\n".join(lines) + "\n"


def _render_column(column: Column, type_name: str) -> str:
    meaning = column.meaning.replace("|", "\\|")
    if column.references:
        meaning += f"; as in [{column.references}](#{column.references})"
    return f"| `{column.name}` | {type_name} | {meaning} | {'yes' if column.personal else ''} |"


def _render_findings() -> str:
    lines = ["| code | severity | means | needs |", "|---|---|---|---|"]
    for one in sorted(FINDING_KINDS, key=lambda finding: finding.code):
        needs = ", ".join(f"`{name}`" for name in one.needs)
        lines.append(f"| `{one.code}` | {one.severity} | {one.meaning} | {needs} |")
    return "\n".join(lines) + "\n"


def _render_function(function: AnalyticsFunction) -> str:
    takes = ", ".join(f"{one.name} {one.type}" for one in function.arguments)
    gives = ", ".join(f"`{one.name}` {one.type}" for one in function.columns)
    return f"`{function.name}({takes})`: {function.meaning}. Returns {gives}.\n"


def _render_tables(types: Types) -> str:
    lines = ["| table | column | type | meaning |", "|---|---|---|---|"]
    for table in _TABLES:
        lines += [
            f"| `{table.name}` | `{one.name}` | {types[table.name][one.name]} | {one.comment} |"
            for one in table.columns
        ]
    return "\n".join(lines) + "\n"


def render_sources(types: Types) -> str:
    """Return the sources of dbt, in YAML."""
    lines = [
        "# `make docs` writes this file from the declarations in migrations/views.",
        "version: 2",
        "sources:",
        "  - name: tenant_mirror",
        f"    schema: {SCHEMA}",
        "    tables:",
    ]
    for view in sorted(VIEWS, key=lambda one: one.name):
        lines += _render_source(view, types[view.name])
    return "\n".join(lines) + "\n"


def _render_source(view: AnalyticsView, types: Mapping[str, str]) -> Iterator[str]:
    yield f"      - name: {view.name}"
    yield f"        description: {json.dumps(view.meaning)}"
    if view.name in _FRESH_BY_RESOURCE:
        yield "        loaded_at_field: fresh_at"
        yield "        freshness: {warn_after: {count: 1, period: hour}}"
    yield "        columns:"
    for column in view.columns:
        yield f"          - name: {column.name}"
        yield f"            data_type: {json.dumps(types[column.name])}"
        yield f"            description: {json.dumps(column.meaning)}"
        if column.personal:
            yield "            config: {meta: {personal: true}}"
        tests = ["not_null"] if column.name in view.key and not column.may_be_null else []
        tests += ["unique"] if view.key == (column.name,) else []
        if tests:
            yield f"            data_tests: [{', '.join(tests)}]"


LIST_TYPES: Final = f"""
    select c.relname as relation, a.attname as name, format_type(a.atttypid, null) as type
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
     where c.relnamespace = '{SCHEMA}'::regnamespace and c.relkind in ('v', 'r')
       and not a.attisdropped
"""
"""Lists the types of all columns."""
