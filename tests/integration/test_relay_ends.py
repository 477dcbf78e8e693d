"""A relay lets go of a sink, and ends, whatever its receivers or Postgres do meanwhile."""

import signal
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from models.sink import SinkKind
from tests.integration.test_relay import Ground
from tests.support.fault_proxy import FaultProxy
from tests.support.hostile import ANSWERED, MANNERS, hostile, unreachable
from tests.support.mirror import last_seq, scalar
from tests.support.receiver import receiving
from tests.support.service import until
from worker.relay.relay import END_SECONDS, Relay
from worker.relay.signature import new_secret
from worker.store import sink_admin

LONGEST = END_SECONDS + 5
"""Seconds until a stopped process has gone, on a busy machine."""


def webhook(url: str, **more: Any) -> dict[str, Any]:
    """A webhook with the longest time-out there is."""
    settings = {"url": url, "allow_http": True, "allow_private": True, "timeout": 60, **more}
    keys = {"keys": [new_secret()]}
    return {"kind": SinkKind.WEBHOOK, "settings": settings, "secrets": keys}


def threads_of_sinks() -> int:
    kinds = ("sink ", "reader of ")
    return sum(one.name.startswith(kinds) for one in threading.enumerate())


@pytest.mark.parametrize("manner", ["silence", "a status line that trickles", "100 without end"])
def test_pausing_and_resuming_a_sink_that_hangs_holds_no_more_threads(
    ground: Ground, manner: str
) -> None:
    (one,) = ground.enrol(1)
    ground.write(one, 3)
    before = threads_of_sinks()
    with hostile(manner) as server:
        ground.add(**webhook(server.url))
        relay, stop = Relay(ground.database, ground.settings, renew_seconds=0.05), threading.Event()
        thread = threading.Thread(target=relay.run, args=(stop,))
        thread.start()
        for cycle in range(20):
            until(lambda cycle=cycle: server.accepted > cycle)  # type: ignore[misc]
            with ground.database.begin() as connection:
                sink_admin.pause(connection, "feed")
            with ground.database.begin() as connection:
                sink_admin.resume(connection, "feed")
            assert threads_of_sinks() <= before + 2, f"in cycle {cycle}"
        with ground.database.begin() as connection:
            sink_admin.remove(connection, "feed")
        until(lambda: threads_of_sinks() == before)
        stop.set()
        thread.join(LONGEST)
    assert not thread.is_alive()
    assert ground.position(one) == 0


def test_a_stopped_relay_ends_however_its_receivers_hang(ground: Ground) -> None:
    """One sink for each way to hang, a frozen Redis and a handshake that never ends among them."""
    (one,) = ground.enrol(1)
    ground.write(one, 3)
    servers = [hostile(manner) for manner in MANNERS]
    with unreachable() as closed, hostile("silence") as frozen:
        for manner, server in zip(MANNERS, servers, strict=True):
            ground.add(manner, **webhook(server.__enter__().url))
        ground.add("closed", **webhook(f"http://127.0.0.1:{closed}"))
        ground.add("frozen", secrets={"url": f"redis://127.0.0.1:{frozen.port}/0"})
        relay = ground.process()
        served = "select count(*) from events.sinks where expires_at > clock_timestamp()"
        until(lambda: scalar(ground.database, served) == len(MANNERS) + 2)
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
    assert set(scalar(ground.database, taken) or ()) <= ANSWERED
    failed = "select count(*) from events.sinks where failures > 0"
    assert scalar(ground.database, failed) == 0, "what we cut off is no failure of the receiver"


def test_a_stopped_relay_ends_while_postgres_does_not_answer(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    ground.add()
    place = urlsplit(ground.database.url.render_as_string(hide_password=False))
    assert place.hostname is not None
    with FaultProxy(place.hostname, place.port or 5432) as proxy:
        here = place._replace(
            scheme="postgresql",
            netloc=place.netloc.replace(f":{place.port}", f":{proxy.port}"),
        )
        relay = ground.process(DATABASE_URL=here.geturl())
        ground.write(one, 3)
        until(lambda: ground.position(one) == last_seq(ground.database, one))
        proxy.swallow()
        until(lambda: proxy.struck > 0)
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(LONGEST) == 0
        proxy.heal()


def test_a_request_that_is_answered_within_the_grace_is_not_sent_again(ground: Ground) -> None:
    (one,) = ground.enrol(1)
    with receiving() as receiver:
        begun = threading.Event()

        def slow(_: object) -> tuple[int, dict[str, str]]:
            begun.set()
            time.sleep(1.5)
            return 204, {}

        receiver.answer = slow
        values = webhook(receiver.url)
        values["secrets"] = {"keys": [receiver.secret]}
        ground.add(**values)
        relay = ground.process()
        assert begun.wait(30)
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(LONGEST) == 0
        assert ground.position(one) > 0
