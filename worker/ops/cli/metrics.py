"""The command ``metrics``: prints, writes or serves metrics for Prometheus."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from worker.overview.metrics.collector import MetricsCollector


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="Serve /metrics at this address until stopped.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Replace this file in one step, for node_exporter's textfile collector.",
)
@click.option(
    "--per-connection",
    is_flag=True,
    help="Add series for each connection: for small fleets only, as each has seven or more.",
)
def metrics(listen: str | None, output: Path | None, *, per_connection: bool) -> None:
    """Print metrics for Prometheus once, or serve them.

    They are read from the database at each request. If it cannot be read, tenant_mirror_up is 0,
    no other metric is exported, and the exit code is 1. With --listen, the rules of 'tenant-mirror
    web' hold, which serves them, too: beyond this host they need a token of the scope metrics.

    No series is about a single connection, so that ten thousand of them cost Prometheus no more
    than one does. --per-connection adds such series, with the organization's name: 10,000
    connections make more than 70,000 series.
    """
    if listen and output:
        raise click.UsageError("use either --listen or --output")
    from worker.core.settings import load_settings

    settings = load_settings()
    if listen:
        from worker.ops.cli.web import serve_until_stopped
        from worker.web.routes import METRICS_ENDPOINTS

        host, port = _parse_listen_address(listen)
        serve_until_stopped(settings, host, port, METRICS_ENDPOINTS, per_connection=per_connection)
        return
    from prometheus_client import CollectorRegistry

    from worker.core.log import configure_logging
    from worker.overview.metrics.collector import MetricsCollector
    from worker.wiring import open_database

    database = open_database(settings)
    registry = CollectorRegistry(auto_describe=False)
    configure_logging(settings.log_level, "console")
    exporter = MetricsCollector(database, settings, per_connection=per_connection)
    registry.register(exporter)
    try:
        raise SystemExit(_write_once(registry, exporter, output))
    finally:
        exporter.close()
        database.close()


def _write_once(
    registry: "CollectorRegistry", exporter: "MetricsCollector", output: Path | None
) -> int:
    """Print or write the metrics; return the exit code. Raises UsageError for an unusable file."""
    from prometheus_client import generate_latest, write_to_textfile

    from worker.ops.cli.exit_codes import EXIT_FAILED

    if output is None:
        click.echo(generate_latest(registry).decode(), nl=False)
    else:
        try:
            write_to_textfile(str(output), registry)
        except OSError as error:
            raise click.UsageError(f"cannot write {output}: {error.strerror}") from None
    return EXIT_FAILED if exporter.last_error else 0


def _parse_listen_address(listen: str) -> tuple[str, int]:
    """Parse host and port; an IPv6 address is in brackets. Raises UsageError."""
    host, _, port = listen.rpartition(":")
    inside = host.removeprefix("[").removesuffix("]")
    if not inside or (":" in inside) != host.startswith("[") or not port.isdecimal():
        raise click.UsageError("--listen needs HOST:PORT, such as 127.0.0.1:9465 or [::1]:9465")
    if int(port) > 65_535:
        raise click.UsageError(f"--listen: there is no port {port}")
    return inside, int(port)
