"""The command ``relay``: runs the process that delivers change events."""

import click


@click.command()
def relay() -> None:
    """Deliver change events to their sinks until stopped.

    Several relays may run: they share the sinks. A relay that is stopped waits a few seconds for
    the requests in progress.
    """
    import signal
    from threading import Event

    from worker.core.log import configure_logging
    from worker.core.process.stdio import drop_output_on_full_disk
    from worker.core.settings import load_settings
    from worker.delivery.relay import POOL_SIZE, SHUTDOWN_SECONDS, Relay
    from worker.ops.stoppable import run_until_stopped
    from worker.ops.wait_for_postgres import wait_for_postgres
    from worker.wiring import open_database

    settings = load_settings()
    drop_output_on_full_disk()
    configure_logging(settings.log_level, settings.log_format)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def serve() -> None:
        database = open_database(settings, pool_size=POOL_SIZE)
        try:
            if wait_for_postgres(database, stop):
                Relay(database, settings).run(stop)
        finally:
            database.close()

    # A second longer than the relay's own limit, whose message names the sinks concerned.
    run_until_stopped(stop, serve, SHUTDOWN_SECONDS + 1)
