# ruff: noqa: INP001 - a script, not a package
"""Write the pages of the reference that follow from the declarations: `make docs`.

Writes `docs/reference/resources.md`, `docs/asyncapi.json`, `docs/reference/routes.md` and
`docs/openapi.json`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from models.api_token import Scope
from models.change_event import ChangeKind
from models.event_type import EVENT_TYPES
from models.property import Property
from models.resource import Resource
from models.resources import RESOURCES
from worker.core.settings import SETTINGS
from worker.delivery.asyncapi import build_document
from worker.web.endpoint import Exemption
from worker.web.openapi import render_document
from worker.web.routes import ENDPOINTS

DOCS = Path(__file__).parents[1] / "docs"

_HEAD = """\
# Resources

Everything that is mirrored: tables, columns, permissions and types of events. `make docs` writes
this page from the declarations in `models/resources/`; edit those.

Each table begins with `connection_id`, the first column of its key, and ends with the columns of
bookkeeping: `first_seen_at`, `changed_at`, `deleted_at` (null while live), `deleted_reason`,
`row_hash`, `source_hash` and `live_since`. The meaning of each column is also its comment in
Postgres. *Personal* columns can say something about a person.
"""


_ROUTES_HEAD = """\
# Routes of the HTTP API

`make docs` writes this page and [openapi.json](../openapi.json), which has parameters, bodies and
answers, from the table in `worker/web/routes.py`; edit that. [Use the HTTP
API](../how-to/use-the-api.md) has examples.

| route | needs | does |
|---|---|---|"""

_ACCESS = {
    **{scope: f"scope `{scope}`" for scope in Scope},
    Exemption.OPEN: "nothing",
    Exemption.WORDS: "nothing; scope `read` for details",
    Exemption.LOCAL: "scope `metrics`, on this host nothing",
}


def render_resources() -> str:
    """Return the page about all resources."""
    return "\n".join([_HEAD, *_render_permissions(), *map(_render_resource, RESOURCES.values())])


def render_asyncapi() -> str:
    """Return the AsyncAPI document, as `tenant-mirror asyncapi` prints it."""
    document = build_document(str(SETTINGS["event_prefix"].default))
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def render_openapi() -> str:
    """Return the OpenAPI document, as the HTTP API serves it."""
    return render_document(ENDPOINTS).decode()


def render_routes() -> str:
    """Return the page about the routes of the HTTP API."""
    rows = (
        f"| `{one.method} {one.path}` | {_ACCESS[one.access]} | {one.summary} |"
        for one in ENDPOINTS
    )
    return "\n".join([_ROUTES_HEAD, *rows, ""])


def _render_permissions() -> Iterator[str]:
    yield "## Permissions\n\n| permission | for |\n|---|---|"
    for permission in dict.fromkeys(one.permission for one in RESOURCES.values()):
        names = [f"`{one.name}`" for one in RESOURCES.values() if one.permission == permission]
        yield f"| `{permission}` | {', '.join(names)} |"
    yield ""


def _render_resource(resource: Resource) -> str:
    columns = "\n".join(map(_render_column, resource.columns))
    types = "\n".join(
        f"| `{resource.name}` | `{kind}` | `{EVENT_TYPES[resource.name, kind]}` |"
        for kind in ChangeKind
    )
    return (
        f"## {resource.name}\n\n{resource.meaning}.\n\n"
        f"| column | type | personal | meaning |\n|---|---|---|---|\n{columns}\n\n"
        f"| resource | change | type of event |\n|---|---|---|\n{types}\n"
    )


def _render_column(column: Property) -> str:
    name = f"**`{column.name}`**" if column.key else f"`{column.name}`"
    personal = "yes" if column.is_personal else ""
    return f"| {name} | {column.type.sql} | {personal} | {column.meaning} |"


if __name__ == "__main__":
    (DOCS / "reference" / "resources.md").write_text(render_resources(), encoding="utf-8")
    (DOCS / "reference" / "routes.md").write_text(render_routes(), encoding="utf-8")
    (DOCS / "openapi.json").write_text(render_openapi(), encoding="utf-8")
    (DOCS / "asyncapi.json").write_text(render_asyncapi(), encoding="utf-8")
