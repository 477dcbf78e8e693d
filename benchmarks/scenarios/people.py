"""Users of one tenant: what several scenarios need to know of their list, and checks."""

from typing import Any

from benchmarks.bench import Bench
from benchmarks.processes import Failed
from benchmarks.tenant import LOCAL_LINKS
from models.resources import RESOURCES
from worker.graph.targets import listing_link

CONTOSO = "contoso"


def users_target() -> str:
    """The list of users as we ask for it, within Graph."""
    return listing_link(RESOURCES["users"]).partition("/v1.0/")[2]


def asked(bench: Bench, connection: str = CONTOSO, *, local: bool = False) -> dict[str, Any]:
    """How a program that is measured reaches the list through Nango."""
    query = users_target().partition("?")[2]
    headers = {
        "Authorization": f"Bearer {bench.ground.tenants.key}",
        "Connection-Id": connection,
        "Provider-Config-Key": "entra",
        **({LOCAL_LINKS: "1"} if local else {}),
    }
    return {
        "url": bench.ground.tenants.url,
        "target": users_target(),
        "headers": headers,
        "params": dict(part.split("=", 1) for part in query.split("&")),
    }


def warm(bench: Bench, *, local: bool = False) -> None:
    """Have the tenant's pages ready."""
    about = {"connection": CONTOSO, "target": users_target()}
    bench.ground.tenants.ask("warm", **about)
    if local:
        bench.ground.tenants.ask("warm", **about, local=True)


def check_rows(bench: Bench, url: str, resource: str, wanted: int) -> None:
    """What was measured was done: the rows are there. Raises Failed."""
    found = bench.ground.ask(
        url, f"select count(*) from directory.{resource} where deleted_at is null"
    )
    if found[0][0] != wanted:
        raise Failed(f"{resource}: {found[0][0]:,} rows where {wanted:,} should be")


def check_events(bench: Bench, url: str, wanted: int, *, after: int = 0) -> int:
    """Each change has its event. The last one's number; raises Failed."""
    statement = (
        "select count(*), coalesce(max(seq), 0) from events.change_events"
        " where resource <> 'connection' and seq > %s"
    )
    count, last = bench.ground.ask(url, statement, after)[0]
    if count != wanted:
        raise Failed(f"{count:,} events where {wanted:,} should be")
    return max(int(last), after)
