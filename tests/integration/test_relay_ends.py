"""A relay lets go of a sink, and ends, whatever its receivers or Postgres do meanwhile."""

import signal
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from models.sink import SinkKind
from tests.integration.test_relay import RelayEnvironment
from tests.support.fault_proxy import FaultProxy
from tests.support.hostile_server import BEHAVIOURS, WITH_STATUS, hold_full_port, run_hostile_server
from tests.support.mirror import fetch_scalar, read_last_seq
from tests.support.service import wait_until
from tests.support.webhook_receiver import run_receiver
from worker.delivery.relay import SHUTDOWN_SECONDS, Relay
from worker.delivery.senders.signature import generate_secret
from worker.delivery.store import admin

LONGEST = SHUTDOWN_SECONDS + 5
"""Seconds until a stopped process has gone, on a busy machine."""


def webhook(url: str, **more: Any) -> dict[str, Any]:
    """A webhook with the longest time-out there is."""
    settings = {"url": url, "allow_http": True, "allow_private": True, "timeout": 60, **more}
    keys = {"keys": [generate_secret()]}
    return {"kind": SinkKind.WEBHOOK, "settings": settings, "secrets": keys}


def threads_of_sinks() -> int:
    kinds = ("sink ", "reader of ")
    return sum(one.name.startswith(kinds) for one in threading.enumerate())


@pytest.mark.parametrize("manner", ["silence", "a status line that trickles", "100 without end"])
def test_pausing_and_resuming_a_sink_that_hangs_holds_no_more_threads(
    environment: RelayEnvironment, manner: str
) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 3)
    before = threads_of_sinks()
    with run_hostile_server(manner) as server:
        environment.add(**webhook(server.url))
        relay, stop = (
            Relay(environment.database, environment.settings, renew_seconds=0.05),
            threading.Event(),
        )
        thread = threading.Thread(target=relay.run, args=(stop,))
        thread.start()
        for cycle in range(20):
            wait_until(lambda cycle=cycle: server.accepted_count > cycle)  # type: ignore[misc]
            with environment.database.open_transaction() as connection:
                admin.pause_sink(connection, "feed")
            with environment.database.open_transaction() as connection:
                admin.resume_sink(connection, "feed")
            assert threads_of_sinks() <= before + 2, f"in cycle {cycle}"
        with environment.database.open_transaction() as db:
            admin.remove_sink(db, "feed")
        wait_until(lambda: threads_of_sinks() == before)
        stop.set()
        thread.join(LONGEST)
    assert not thread.is_alive()
    assert environment.position(one) == 0


def test_a_stopped_relay_ends_however_its_receivers_hang(environment: RelayEnvironment) -> None:
    """One sink for each way to hang, a frozen Redis and a handshake that never ends among them."""
    (one,) = environment.enrol(1)
    environment.write(one, 3)
    servers = [run_hostile_server(manner) for manner in BEHAVIOURS]
    with hold_full_port() as closed, run_hostile_server("silence") as frozen:
        for manner, server in zip(BEHAVIOURS, servers, strict=True):
            environment.add(manner, **webhook(server.__enter__().url))
        environment.add("closed", **webhook(f"http://127.0.0.1:{closed}"))
        environment.add("frozen", secrets={"url": f"redis://127.0.0.1:{frozen.port}/0"})
        relay = environment.process()
        served = "select count(*) from events.sinks where expires_at > clock_timestamp()"
        wait_until(lambda: fetch_scalar(environment.database, served) == len(BEHAVIOURS) + 2)
        time.sleep(1)  # so that each hangs where it is meant to
        began = time.monotonic()
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(LONGEST) == 0
        assert time.monotonic() - began < LONGEST
        for server in servers:
            server.__exit__(None, None, None)
    taken = (
        "select array_agg(s.name order by s.name) from events.sinks s"
        " join events.positions p on p.sink_id = s.id where p.seq > 0"
    )
    assert set(fetch_scalar(environment.database, taken) or ()) <= WITH_STATUS
    failed = "select count(*) from events.sinks where failures > 0"
    assert fetch_scalar(environment.database, failed) == 0, (
        "what we cut off is no failure of the receiver"
    )


def test_a_stopped_relay_ends_while_postgres_does_not_answer(environment: RelayEnvironment) -> None:
    (one,) = environment.enrol(1)
    environment.add()
    place = urlsplit(environment.database.url.render_as_string(hide_password=False))
    assert place.hostname is not None
    with FaultProxy(place.hostname, place.port or 5432) as proxy:
        here = place._replace(
            scheme="postgresql",
            netloc=place.netloc.replace(f":{place.port}", f":{proxy.port}"),
        )
        relay = environment.process(DATABASE_URL=here.geturl())
        environment.write(one, 3)
        wait_until(lambda: environment.position(one) == read_last_seq(environment.database, one))
        proxy.black_hole()
        wait_until(lambda: proxy.struck_count > 0)
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(LONGEST) == 0
        proxy.heal()


def test_a_request_that_is_answered_within_the_grace_is_not_sent_again(
    environment: RelayEnvironment,
) -> None:
    (one,) = environment.enrol(1)
    with run_receiver() as receiver:
        begun = threading.Event()

        def slow(_: object) -> tuple[int, dict[str, str]]:
            begun.set()
            time.sleep(1.5)
            return 204, {}

        receiver.answer = slow
        values = webhook(receiver.url)
        values["secrets"] = {"keys": [receiver.secret]}
        environment.add(**values)
        relay = environment.process()
        assert begun.wait(30)
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(LONGEST) == 0
        assert environment.position(one) > 0
