"""What the handlers of all routes share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio import CapacityLimiter

from worker.core.settings import Settings
from worker.overview.connection_look import ConnectionLooks
from worker.store.engine import Database
from worker.web.client_address import Network, parse_networks
from worker.web.endpoint import Endpoint
from worker.web.fleet_cache import FleetCache
from worker.web.host import list_host_names
from worker.web.shared_reads import SharedReads
from worker.web.verify import FailureLimiter, TokenVerifier

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

THREADS = 8
"""Requests that are worked on at the same time. Each has a connection to Postgres at hand."""
HEALTH_THREADS = 2
"""Of health checks, which must not wait behind requests."""
POOL_SIZE = THREADS + HEALTH_THREADS


@dataclass(frozen=True)
class WebContext:
    """The settings and servers of the process, and what it keeps in memory."""

    settings: Settings
    database: Database
    registry: "CollectorRegistry"
    """Of the metrics."""
    endpoints: tuple[Endpoint, ...]
    """The routes that are served."""
    verifier: TokenVerifier
    fleet: FleetCache
    looks: ConnectionLooks
    host_names: frozenset[str]
    proxies: tuple[Network, ...] = ()
    is_encrypted: bool = False
    """Whether the server itself speaks HTTPS."""
    reads: SharedReads = field(default_factory=SharedReads)
    failures: FailureLimiter = field(default_factory=FailureLimiter)
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))
    health_threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(HEALTH_THREADS))

    def forget(self, connection_id: int | None = None) -> None:
        """Let the next requests see what has just been done, to a connection or to many."""
        self.fleet.invalidate()
        self.reads.clear()
        if connection_id is not None:
            self.looks.invalidate(connection_id)

    def close(self) -> None:
        self.fleet.close()


def build_context(
    settings: Settings,
    database: Database,
    registry: "CollectorRegistry",
    endpoints: Sequence[Endpoint],
    bound_host: str,
) -> WebContext:
    """Return the context of a server that listens at an address."""
    return WebContext(
        settings=settings,
        database=database,
        registry=registry,
        endpoints=tuple(endpoints),
        verifier=TokenVerifier(database, settings.web_token),
        fleet=FleetCache(database, settings),
        looks=ConnectionLooks(database),
        host_names=list_host_names(settings.web_names, bound_host),
        proxies=parse_networks(settings.web_proxies),
        is_encrypted=settings.web_certificate is not None,
    )
