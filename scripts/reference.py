# ruff: noqa: INP001 - a script, not a package
"""Write the pages of the reference that follow from the declarations: `make docs`.

Writes `docs/reference/resources.md`, `docs/asyncapi.json`, `docs/reference/routes.md`,
`docs/openapi.json` and `docs/examples/README.md`, the tables of costs in
`docs/explanation/freshness.md` and `README.md`, and `docs/reference/analytics.md` and
`docs/examples/sources.yml`, for which it migrates a database.
"""

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text

from migrations.views.dictionary import LIST_TYPES, Types, render_dictionary, render_sources
from models.api_token import Scope
from models.change_event import ChangeKind
from models.event_type import EVENT_TYPES
from models.property import Property
from models.resource import Resource
from models.resources import RESOURCES
from models.source import Source
from sandbox.servers import Home, run_servers
from worker.core.settings import SETTINGS
from worker.delivery.asyncapi import build_document
from worker.graph.client import MAX_BATCH_ITEMS
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database
from worker.web.endpoint import Exemption
from worker.web.openapi import render_document
from worker.web.routes import ENDPOINTS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

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

_EXAMPLES_HEAD = """\
# Questions to start from

Each file is one query that a login with the role `tenant_mirror_reader` may run
([give access](../how-to/give-access.md#an-analyst)):

```sh
psql postgresql://ann@HOST:PORT/DATABASE -f docs/examples/findings-by-severity.sql
```

Put the customer's number, from `analytics.connections`, in place of 1, or leave the condition out
to ask about all customers; put a name of yours in place of a quoted one, such as 'Helpers'. A test
compares the answers with simulated customers. `make docs` writes this page from the files.

With the customers of `make run` some answers are empty: none of them has a Global Administrator,
for example. `tenant-mirror sandbox serve --story` has thirty people who are made for these
questions. Mirror them in another terminal, with the address and the key that it prints:

```sh
TENANT_MIRROR_HOME=/tmp/story NANGO_HOST=http://127.0.0.1:3003 NANGO_SECRET_KEY=... \\
  TENANT_MIRROR_RESOURCES_ON=managers,sign_in_activity make run
```

Beside them: [grafana.json](grafana.json), a dashboard for Grafana's Postgres data source;
[privileged_users.py](privileged_users.py), a program with pandas; [sources.yml](sources.yml), the
views as sources of dbt. All views and columns are in the [reference](../reference/analytics.md).

| question | reads | query |
|---|---|---|"""

_RELATION = re.compile(r"\banalytics\.(\w+)")

_ACCESS = {
    **{scope: f"scope `{scope}`" for scope in Scope},
    Exemption.OPEN: "nothing",
    Exemption.WORDS: "nothing; scope `read` for details",
    Exemption.LOCAL: "scope `metrics`, on this host nothing",
}


def render_resources() -> str:
    """Return the page about all resources."""
    return "\n".join([_HEAD, *_render_permissions(), *map(_render_resource, RESOURCES.values())])


_BEGIN, _END = "<!-- `make docs` writes this table -->\n", "<!-- end of the table -->\n"

_COSTS_HEAD = """\
| resource | default | read every | calls at rest | calls of a first load | permission |
|---|---|---|---|---|---|"""


def render_freshness() -> str:
    """Return the page about freshness, with what each resource costs."""
    rows = map(_render_costs, RESOURCES.values())
    page = (DOCS / "explanation" / "freshness.md").read_text(encoding="utf-8")
    return _put_table(page, "\n".join([_COSTS_HEAD, *rows, ""]))


def render_readme() -> str:
    """Return the README, with how often each resource is read: a column for each clock."""
    clocks: dict[str, list[str]] = {}
    for resource in sorted(RESOURCES.values(), key=_find_interval):
        if not resource.is_optional:
            clocks.setdefault(_render_interval(resource), []).append(f"`{resource.name}`")
    if off := [f"`{one.name}`" for one in RESOURCES.values() if one.is_optional]:
        clocks["off by default"] = off
    cells = [clocks, ["---"] * len(clocks), [", ".join(names) for names in clocks.values()]]
    table = "".join(f"| {' | '.join(row)} |\n" for row in cells)
    return _put_table((ROOT / "README.md").read_text(encoding="utf-8"), table)


def _put_table(page: str, table: str) -> str:
    before, _, rest = page.partition(_BEGIN)
    return before + _BEGIN + table + _END + rest.partition(_END)[2]


def _find_source(resource: Resource) -> Source:
    return RESOURCES[resource.parent or resource.name].source


def _find_interval(resource: Resource) -> float:
    """Return the seconds between two reads, by default."""
    return max(float(SETTINGS[name].default) for name in _find_source(resource).intervals)


def _render_interval(resource: Resource) -> str:
    minutes = round(_find_interval(resource) / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h"


def _render_costs(resource: Resource) -> str:
    cells = (
        f"`{resource.name}`",
        "off" if resource.is_optional else "on",
        _render_interval(resource),
        _explain_rest(resource),
        _explain_first_load(resource),
        f"`{resource.permission}`",
    )
    return f"| {' | '.join(cells)} |"


def _explain_rest(resource: Resource) -> str:
    if resource.is_edge:
        return f"none, with `{resource.parent}`"
    if resource.source.below:
        return _explain_lists(resource)
    if resource.source.follows_delta:
        if resource.source.full_walk == "daily_seconds":
            return f"none beyond the one; once a day 1 for each {resource.source.page_size:,}"
        return "none beyond the one"
    return "none beyond the one; 1 for each further page"


def _explain_first_load(resource: Resource) -> str:
    source = resource.source
    if resource.is_edge:
        return f"none, with `{resource.parent}`"
    if source.below:
        return _explain_lists(resource)
    if source.takes_token:
        return f"2, and 1 for each {source.page_size:,}"
    if source.page_size and not source.follows_delta:
        return f"1 for each {source.page_size:,}"
    return "1 for each page, as large as Graph chooses"


def _explain_lists(resource: Resource) -> str:
    return f"1 for each {MAX_BATCH_ITEMS} of `{resource.partitioned_by}`"


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


def render_examples() -> str:
    """Return the list of the example queries: each one's question, and the views that it reads."""
    rows = map(_render_example, sorted((DOCS / "examples").glob("*.sql")))
    return "\n".join([_EXAMPLES_HEAD, *rows, ""])


def _render_example(path: Path) -> str:
    query = path.read_text(encoding="utf-8")
    question = query.partition("\n")[0].removeprefix("-- ")
    views = ", ".join(f"`{name}`" for name in dict.fromkeys(_RELATION.findall(query)))
    return f"| {question} | {views} | [{path.stem}]({path.name}) |"


def _render_permissions() -> Iterator[str]:
    yield "## Permissions\n\n| permission | for |\n|---|---|"
    for permission in dict.fromkeys(one.permission for one in RESOURCES.values()):
        names = [f"`{one.name}`" for one in RESOURCES.values() if one.permission == permission]
        yield f"| `{permission}` | {', '.join(names)} |"
    yield ""


def _render_resource(resource: Resource) -> str:
    columns = "\n".join(map(_render_column, resource.columns))
    optional = " Off unless [settings](settings.md#resources-and-properties) switch it on."
    return (
        f"## {resource.name}\n\n{resource.meaning}.{optional * resource.is_optional}\n\n"
        f"| column | type | personal | meaning |\n|---|---|---|---|\n{columns}\n\n"
        f"{_render_types(resource)}\n"
    )


def _render_types(resource: Resource) -> str:
    if not resource.has_events:
        return "No event tells its changes."
    types = "\n".join(
        f"| `{resource.name}` | `{kind}` | `{EVENT_TYPES[resource.name, kind]}` |"
        for kind in ChangeKind
    )
    return f"| resource | change | type of event |\n|---|---|---|\n{types}"


def _render_column(column: Property) -> str:
    name = f"**`{column.name}`**" if column.key else f"`{column.name}`"
    personal = "yes" if column.is_personal else ""
    return f"| {name} | {column.type.sql} | {personal} | {column.meaning} |"


def read_types(database: Database) -> Types:
    """Return the types of the columns of a migrated database."""
    types: dict[str, dict[str, str]] = defaultdict(dict)
    with database.open_transaction() as db:
        for row in db.execute(text(LIST_TYPES)):
            types[row.relation][row.name] = row.type
    return types


def _load_types() -> Types:
    with tempfile.TemporaryDirectory(prefix="tenant-mirror-docs-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # as root, the server runs as another user
        with run_servers(Home(home / "home")) as servers:
            database = Database(servers.database_url)
            migrate(database)
            types = read_types(database)
            database.close()
            return types


if __name__ == "__main__":
    (DOCS / "reference" / "resources.md").write_text(render_resources(), encoding="utf-8")
    (DOCS / "reference" / "routes.md").write_text(render_routes(), encoding="utf-8")
    (DOCS / "explanation" / "freshness.md").write_text(render_freshness(), encoding="utf-8")
    (ROOT / "README.md").write_text(render_readme(), encoding="utf-8")
    (DOCS / "openapi.json").write_text(render_openapi(), encoding="utf-8")
    (DOCS / "asyncapi.json").write_text(render_asyncapi(), encoding="utf-8")
    (DOCS / "examples" / "README.md").write_text(render_examples(), encoding="utf-8")
    types = _load_types()
    (DOCS / "reference" / "analytics.md").write_text(render_dictionary(types), encoding="utf-8")
    (DOCS / "examples" / "sources.yml").write_text(render_sources(types), encoding="utf-8")
