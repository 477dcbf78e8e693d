"""The command ``web``: runs the process that serves the page and the HTTP API."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from starlette.types import ASGIApp

    from worker.core.settings import Settings
    from worker.overview.metrics.collector import MetricsCollector
    from worker.store.engine import Database
    from worker.web.context import WebContext
    from worker.web.endpoint import Endpoint
    from worker.web.server import Listener

_EXAMPLES = """\b
Examples:
  tenant-mirror tokens create grafana --scope metrics
  tenant-mirror web
  tenant-mirror web --host 0.0.0.0 --port 8443
  curl http://127.0.0.1:8420/health/ready
"""

_BUSY_SECONDS = 1.0
"""How long a stop waits for threads, once the requests have been ended."""


@click.command(epilog=_EXAMPLES)
@click.option("--host", help="Address to listen at.  [default: TENANT_MIRROR_WEB_HOST]")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port to listen at; 0 picks one.  [default: TENANT_MIRROR_WEB_PORT]",
)
def web(host: str | None, port: int | None) -> None:
    """Serve the page of operators, the HTTP API, health checks and metrics until stopped.

    It listens on this host only, unless it is given another address. Then it needs a token, and
    HTTPS: a certificate, or a listed reverse proxy. Clients present tokens of 'tenant-mirror tokens
    create'. Several may run.
    """
    from worker.core.settings import load_settings
    from worker.web.routes import ENDPOINTS

    settings = load_settings()
    serve_until_stopped(
        settings,
        settings.web_host if host is None else host,
        settings.web_port if port is None else port,
        ENDPOINTS,
        with_page=True,
    )


def serve_until_stopped(
    settings: "Settings",
    host: str,
    port: int,
    endpoints: "Sequence[Endpoint]",
    *,
    with_page: bool = False,
    per_connection: bool = False,
) -> None:
    """Serve these routes until a signal. Raises ConfigurationError if that would be unsafe."""
    import signal
    from threading import Event

    from worker.core.log import configure_logging
    from worker.core.process.stdio import drop_output_on_full_disk
    from worker.ops.stoppable import abandon_busy_threads
    from worker.overview.metrics.collector import MetricsCollector
    from worker.web.context import POOL_SIZE
    from worker.web.server import open_listener
    from worker.wiring import open_database

    drop_output_on_full_disk()
    configure_logging(settings.log_level, settings.log_format)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = open_database(settings, pool_size=POOL_SIZE)
    try:
        listener = open_listener(host, port, settings)
        with listener.socket:
            exporter = MetricsCollector(database, settings, per_connection=per_connection)
            try:
                _serve(
                    settings,
                    database,
                    listener,
                    endpoints,
                    stop,
                    with_page=with_page,
                    exporter=exporter,
                )
            finally:
                exporter.close()
    finally:
        database.close()
    abandon_busy_threads(_BUSY_SECONDS)


def _serve(
    settings: "Settings",
    database: "Database",
    listener: "Listener",
    endpoints: "Sequence[Endpoint]",
    stop: "Event",
    *,
    with_page: bool,
    exporter: "MetricsCollector",
) -> None:
    from prometheus_client import CollectorRegistry

    from worker.ops.wait_for_postgres import wait_for_postgres
    from worker.web.context import build_context
    from worker.web.server import check_exposure, serve_app

    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    context = build_context(settings, database, registry, endpoints, listener.host)
    try:
        check_exposure(
            listener,
            settings,
            lambda: (
                settings.web_token is not None
                or not wait_for_postgres(database, stop)
                or context.verifier.has_tokens()
            ),
        )
        serve_app(_build(context, with_page=with_page), listener, settings, stop)
    finally:
        context.close()


def _build(context: "WebContext", *, with_page: bool) -> "ASGIApp":
    if with_page:
        from worker.page.routes import build_site

        return build_site(context)
    from worker.web.app import build_app

    return build_app(context)
