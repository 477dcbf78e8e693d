"""Mirrors the resource that ``docs/how-to/add-a-resource.md`` adds: a walk, changes and checks.

A program: ``DATABASE_URL`` names a database whose schema has the resource.
"""

import json
import os

from click.testing import CliRunner

from models.event_type import EVENT_TYPES
from models.run import RunState
from sandbox.tenant import Nango, Tenant, serve
from tests.support.mirror import Mirror, assert_exact, read_events, read_last_seq, read_live_rows
from worker.core.settings import load_settings
from worker.ops.cli.status import status
from worker.ops.cli.verify import verify
from worker.sync.connections.discover import discover
from worker.wiring import close_runtime, open_runtime

NAME = "org_contacts"


def check_walk(mirror: Mirror) -> None:
    """The first sync brings all contacts, the next their changes, each with its event."""
    tenant = mirror.tenant
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    changed, gone, *others = sorted(str(r["id"]) for r in read_live_rows(mirror.database, NAME))
    assert len(others) == 7
    mark = read_last_seq(mirror.database)
    tenant.update_object(NAME, changed, displayName="North")
    tenant.delete_object(NAME, gone)
    fresh = tenant.create_object(NAME, displayName="South")
    assert mirror.sync(NAME).state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)
    events = read_events(mirror.database, after=mark)
    types = {e["object_id"]: EVENT_TYPES[e["resource"], e["change"]] for e in events}
    assert types == {
        changed: "org_contact.updated",
        gone: "org_contact.deleted",
        fresh: "org_contact.created",
    }
    (names,) = (e["changed"] for e in events if e["object_id"] == changed)
    assert names == ["display_name"]


def check_commands(url: str) -> None:
    """The commands know the resource."""
    environment = {"DATABASE_URL": url}
    checked = CliRunner().invoke(verify, ["1", "--json"], env=environment)
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.output)["by_resource"][NAME] == 9
    shown = CliRunner().invoke(status, ["--json"], env=environment)
    (row,) = json.loads(shown.output)["connections"]
    assert row["freshness"][NAME]["is_late"] is False, row["freshness"]


def main() -> None:
    url = os.environ["DATABASE_URL"]
    with serve(Nango(rate_limit=None)) as server:
        settings = load_settings(
            database_url=url, nango_host=server.url, nango_secret_key=server.nango.key
        )
        runtime = open_runtime(settings)
        tenant = Tenant(seed=5, users=6, groups=2, sites=2, others=9)
        server.nango.add_connection("contoso", tenant)
        discover(runtime.database, runtime.nango, settings)
        check_walk(Mirror(runtime, server.nango, tenant))
        check_commands(url)
        close_runtime(runtime)


if __name__ == "__main__":
    main()
