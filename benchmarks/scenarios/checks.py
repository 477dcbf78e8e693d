"""Helpers of several scenarios: the list of users, and checks of rows and events."""

from typing import Any

from benchmarks.bench import Bench
from benchmarks.processes import MeasurementFailed
from benchmarks.tenant_process import LOCAL_LINKS_HEADER
from models.resources import RESOURCES
from worker.graph.urls import build_listing_url

CONTOSO = "contoso"


def build_users_path() -> str:
    """Return the Graph path of the list of users, as we request it."""
    return build_listing_url(RESOURCES["users"]).partition("/v1.0/")[2]


def build_arguments(
    bench: Bench, connection: str = CONTOSO, *, local: bool = False
) -> dict[str, Any]:
    """Return the arguments with which a measured program reads the list through Nango."""
    query = build_users_path().partition("?")[2]
    headers = {
        "Authorization": f"Bearer {bench.environment.tenant_process.key}",
        "Connection-Id": connection,
        "Provider-Config-Key": "entra",
        **({LOCAL_LINKS_HEADER: "1"} if local else {}),
    }
    return {
        "url": bench.environment.tenant_process.url,
        "target": build_users_path(),
        "headers": headers,
        "params": dict(part.split("=", 1) for part in query.split("&")),
    }


def warm_pages(bench: Bench, *, local: bool = False) -> None:
    """Let the tenant process cache its pages."""
    about = {"connection": CONTOSO, "target": build_users_path()}
    bench.environment.tenant_process.send("warm", **about)
    if local:
        bench.environment.tenant_process.send("warm", **about, local=True)


def check_rows(bench: Bench, url: str, resource: str, wanted: int) -> None:
    """Raise MeasurementFailed unless the rows exist."""
    found = bench.environment.query(
        url, f"select count(*) from directory.{resource} where deleted_at is null"
    )
    if found[0][0] != wanted:
        raise MeasurementFailed(f"{resource}: {found[0][0]:,} rows where {wanted:,} should be")


def check_events(bench: Bench, url: str, wanted: int, *, after: int = 0) -> int:
    """Return the last event's number. Raises MeasurementFailed unless each change has its event."""
    statement = (
        "select count(*), coalesce(max(seq), 0) from events.change_events"
        " where resource <> 'connection' and seq > %s"
    )
    count, last = bench.environment.query(url, statement, after)[0]
    if count != wanted:
        raise MeasurementFailed(f"{count:,} events where {wanted:,} should be")
    return max(int(last), after)
