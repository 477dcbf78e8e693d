"""The process that delivers change events."""

import click


@click.command()
def relay() -> None:
    """Deliver change events to their sinks, until told to stop.

    Several may run: they share the sinks. Stopping one gives the requests under way a few seconds.
    """
    import signal
    from threading import Event

    from worker.core.log import configure
    from worker.core.settings import load_settings
    from worker.core.streams import outlive_full_disk
    from worker.ops.ending import run_until
    from worker.ops.patience import when_ready
    from worker.relay.relay import END_SECONDS, POOL_SIZE, Relay
    from worker.wiring import open_database

    settings = load_settings()
    outlive_full_disk()
    configure(settings.log_level, settings.log_format)
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def serve() -> None:
        database = open_database(settings, pool_size=POOL_SIZE)
        try:
            if when_ready(database, stop):
                Relay(database, settings).run(stop)
        finally:
            database.close()

    # A second more, as the relay's own bound is the one that says which sinks are concerned.
    run_until(stop, serve, END_SECONDS + 1)
