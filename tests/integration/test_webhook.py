"""Webhooks against a real receiver, which checks every signature with the official package."""

import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.sink import SinkKind, SinkStart
from tests.support.event_validator import EventValidator
from tests.support.mirror import Mirror, fetch_scalar, read_last_seq
from tests.support.service import wait_until
from tests.support.tls import Authority
from tests.support.webhook_receiver import (
    ReceivedRequest,
    WebhookReceiver,
    answer_always,
    is_verified,
    run_receiver,
)
from worker.core.errors import EventFailed, EventRefused, RetryLater, SinkGone, SinkMisconfigured
from worker.core.settings import Settings, load_settings
from worker.delivery.asyncapi import build_document
from worker.delivery.relay import POOL_SIZE, Relay
from worker.delivery.senders.address import PinnedTransport, is_private_host, is_public
from worker.delivery.senders.open_sender import open_sender
from worker.delivery.senders.sender import Envelope
from worker.delivery.senders.signature import build_signature_headers, generate_secret, parse_secret
from worker.delivery.senders.webhook import (
    RETRY_DELAYS,
    WebhookSender,
    build_requests,
    get_retry_delay,
)
from worker.delivery.settings import build_stored_settings, parse_webhook_settings
from worker.delivery.store import admin
from worker.delivery.store.sinks import Sink
from worker.store.engine import Database


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with run_receiver() as made:
        yield made


Open = Callable[..., WebhookSender]


@pytest.fixture
def target_of(receiver: WebhookReceiver) -> Iterator[Open]:
    made: list[WebhookSender] = []

    def make(failures: int = 0, **settings: Any) -> WebhookSender:
        given = {"url": receiver.url, "allow_http": True, "allow_private": True, **settings}
        target = WebhookSender(
            "crm", parse_webhook_settings(given), [receiver.secret], failures=failures
        )
        made.append(target)
        return target

    yield make
    for one in made:
        one.close()


def some(*numbers: int, connection_id: int = 3) -> list[Envelope]:
    return [
        Envelope(json.dumps({"n": n}).encode(), f"event-{connection_id}-{n}", connection_id, n)
        for n in numbers
    ]


def test_each_event_is_a_signed_request_under_its_own_id(
    receiver: WebhookReceiver, target_of: Open
) -> None:
    target_of().send(some(1, 2, 3))
    assert receiver.sequences == [1, 2, 3]
    assert [one.headers["webhook-id"] for one in receiver.requests] == [
        "event-3-1",
        "event-3-2",
        "event-3-3",
    ]
    assert all(receiver.is_signed(one) for one in receiver.requests)
    assert {one.headers["content-type"] for one in receiver.requests} == {
        "application/cloudevents+json"
    }


def test_the_headers_are_those_of_the_document(receiver: WebhookReceiver, target_of: Open) -> None:
    target_of().send(some(1))
    target_of(batch=5).send(some(2, 3))
    judge = EventValidator(build_document("tenantmirror"))
    for got in receiver.requests:
        assert judge.find_problems(got.headers, "/components/messageTraits/signed/headers") == []
        kept = {name: value for name, value in got.headers.items() if name != "webhook-id"}
        assert judge.find_problems(kept, "/components/messageTraits/signed/headers") != []


def test_batches_keep_the_order_and_their_ids(receiver: WebhookReceiver, target_of: Open) -> None:
    events = some(*range(1, 8))
    target_of(batch=3).send(events)
    assert [len(one.events) for one in receiver.requests] == [3, 3, 1]
    assert receiver.sequences == [1, 2, 3, 4, 5, 6, 7]
    kinds = {one.headers["content-type"] for one in receiver.requests}
    assert kinds == {"application/cloudevents-batch+json"}
    ids = [one.headers["webhook-id"] for one in receiver.requests]
    assert len(set(ids)) == 3
    target_of(batch=3).send(events)
    assert [one.headers["webhook-id"] for one in receiver.requests[3:]] == ids


def test_another_set_of_events_is_another_request() -> None:
    ids = [next(build_requests(some(*range(1, n)), 100)).message_id for n in range(2, 6)]
    assert len(set(ids)) == 4


def test_a_receiver_with_another_secret_refuses_and_is_told_apart(
    receiver: WebhookReceiver, target_of: Open
) -> None:
    target = target_of()
    receiver.secret = generate_secret()
    with pytest.raises(RetryLater, match=r"sink 'crm' \(127.*401; check .* secret"):
        target.send(some(1))


def test_while_secrets_rotate_both_are_accepted(receiver: WebhookReceiver) -> None:
    given = {"url": receiver.url, "allow_http": True, "allow_private": True}
    keys = [generate_secret(), receiver.secret]
    target = WebhookSender("crm", parse_webhook_settings(given), keys)
    target.send(some(1))
    receiver.secret = keys[0]
    target.send(some(2))
    target.close()
    assert receiver.sequences == [1, 2]
    for one in receiver.requests:
        assert [is_verified(key, one) for key in (*keys, generate_secret())] == [True, True, False]


def test_a_request_that_was_altered_or_kept_is_no_longer_genuine(
    receiver: WebhookReceiver, target_of: Open
) -> None:
    target_of(batch=2).send(some(1, 2))
    (got,) = receiver.requests
    assert receiver.is_signed(got)
    altered = [replace(got, body=got.body.replace(b"1", b"3"))] + [
        replace(got, headers={**got.headers, name: other})
        for name, other in {
            "webhook-id": "another",
            "webhook-timestamp": str(int(got.headers["webhook-timestamp"]) - 1),
            "webhook-signature": got.headers["webhook-signature"].swapcase(),
        }.items()
    ]
    assert not any(receiver.is_signed(one) for one in altered)
    moments = {seconds: int(time.time()) + seconds for seconds in (-290, -310, 310)}
    kept = {
        seconds: replace(
            got,
            headers=build_signature_headers(
                [parse_secret(receiver.secret)], "event-3-1", moment, got.body
            ),
        )
        for seconds, moment in moments.items()
    }
    assert {seconds: receiver.is_signed(one) for seconds, one in kept.items()} == {
        -290: True,
        -310: False,
        310: False,
    }


@pytest.mark.parametrize("status", [401, 403, 404, 405, 408, 415, 431, 429, 500, 502, 503, 504])
def test_failures_wait_as_planned_by_their_number(
    receiver: WebhookReceiver, target_of: Open, status: int
) -> None:
    receiver.answer = answer_always(status)
    target = target_of()
    for planned in (*RETRY_DELAYS, RETRY_DELAYS[-1]):
        with pytest.raises(RetryLater, match=str(status)) as failed:
            target.send(some(1))
        assert failed.value.after == planned


def test_the_plan_goes_on_where_another_process_left_it(
    receiver: WebhookReceiver, target_of: Open
) -> None:
    receiver.answer = answer_always(500)
    with pytest.raises(RetryLater) as failed:
        target_of(failures=3).send(some(1))
    assert failed.value.after == 7_200


def test_a_success_starts_the_plan_anew(receiver: WebhookReceiver, target_of: Open) -> None:
    target = target_of(failures=8)
    target.send(some(1))
    receiver.answer = answer_always(500)
    with pytest.raises(RetryLater) as failed:
        target.send(some(2))
    assert failed.value.after == 5


def test_the_plan_ends_with_a_day_between_two_tries() -> None:
    assert [get_retry_delay(failures) for failures in (0, 1, 2, 9, 10, 1_000)] == [
        5,
        5,
        300,
        86_400,
        86_400,
        86_400,
    ]


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_that_the_receiver_names_is_kept(
    receiver: WebhookReceiver, target_of: Open, status: int
) -> None:
    receiver.answer = answer_always(status, Retry_After="42")
    with pytest.raises(RetryLater, match="asks for 42 s") as failed:
        target_of(failures=5).send(some(1))
    assert failed.value.after == 42


def test_a_pause_of_nothing_is_no_busy_loop(receiver: WebhookReceiver, target_of: Open) -> None:
    receiver.answer = answer_always(503, Retry_After="0")
    with pytest.raises(RetryLater) as failed:
        target_of().send(some(1))
    assert failed.value.after == 1


def test_a_receiver_that_is_gone_says_so(receiver: WebhookReceiver, target_of: Open) -> None:
    receiver.answer = answer_always(410)
    with pytest.raises(SinkGone, match=r"sink 'crm' .*410.*sinks resume"):
        target_of().send(some(1))


def test_no_redirect_is_followed(receiver: WebhookReceiver, target_of: Open) -> None:
    with run_receiver() as elsewhere:
        receiver.answer = answer_always(307, Location=elsewhere.url)
        with pytest.raises(RetryLater, match="307, a redirect"):
            target_of().send(some(1))
        assert elsewhere.requests == []


def test_how_many_events_were_taken_before_a_failure_is_told(
    receiver: WebhookReceiver, target_of: Open
) -> None:
    refused = threading.Event()

    def once(got: ReceivedRequest) -> tuple[int, dict[str, str]]:
        if got.events[-1]["n"] >= 5 and not refused.is_set():
            refused.set()
            return 500, {}
        return 200, {}

    receiver.answer = once
    target = target_of(batch=2)
    with pytest.raises(EventFailed):
        target.send(some(1, 2, 3, 4, 5))
    assert target.sent_count == 4
    target.send(some(5, 6, 7))
    assert target.sent_count == 3
    assert receiver.sequences == [1, 2, 3, 4, 5, 5, 6, 7]


@pytest.mark.parametrize("status", [400, 409, 413, 418, 422, 423, 451])
@pytest.mark.parametrize("place", [0, 1, 36, 49, 98, 99])
def test_one_refused_event_is_found_in_a_batch(
    receiver: WebhookReceiver, target_of: Open, status: int, place: int
) -> None:
    numbers = range(100)
    receiver.answer = lambda got: (
        (status, {}) if any(one["n"] == place for one in got.events) else (204, {})
    )
    target = target_of(batch=100)
    with pytest.raises(EventRefused, match=f"answered {status}"):
        target.send(some(*numbers))
    assert target.sent_count == place
    taken = [n for got in receiver.requests for n in (one["n"] for one in got.events) if n < place]
    assert sorted(set(taken)) == list(range(place))
    assert len(receiver.requests) <= 1 + 2 * 7


def test_a_batch_that_is_too_large_is_halved_and_nothing_is_refused(
    receiver: WebhookReceiver, target_of: Open
) -> None:
    """The smaller size is kept for a while, and larger ones are tried again."""
    numbers, most = list(range(1, 1_001)), 30
    accepted: list[int] = []

    def small(got: ReceivedRequest) -> tuple[int, dict[str, str]]:
        if len(got.events) > most:
            return 413, {}
        accepted.extend(one["n"] for one in got.events)
        return 204, {}

    receiver.answer = small
    target = target_of(batch=100)
    target.send(some(*numbers))
    assert accepted == numbers
    refused = sum(len(got.events) > most for got in receiver.requests)
    assert refused <= 6
    most = 100
    target.send(some(*range(4_000)))
    assert max(len(got.events) for got in receiver.requests[-5:]) == 100


def test_events_that_are_refused_do_not_lengthen_the_pauses_of_the_receiver(
    receiver: WebhookReceiver, target_of: Open
) -> None:
    target = target_of()
    receiver.answer = answer_always(422)
    for _ in range(5):
        with pytest.raises(EventRefused):
            target.send(some(1))
        target.forget_failure()
    receiver.answer = answer_always(500)
    with pytest.raises(EventFailed) as failed:
        target.send(some(1))
    assert failed.value.after == RETRY_DELAYS[0]


def test_a_slow_receiver_is_not_waited_for(receiver: WebhookReceiver, target_of: Open) -> None:
    def slow(_: ReceivedRequest) -> tuple[int, dict[str, str]]:
        receiver.stop.wait(20)
        return 200, {}

    receiver.answer = slow
    began = time.monotonic()
    with pytest.raises(RetryLater, match="did not answer within 1 s"):
        target_of(timeout=1).send(some(1))
    assert time.monotonic() - began < 5


def test_a_packed_answer_counts_by_its_status(receiver: WebhookReceiver, target_of: Open) -> None:
    """None is asked for, and none is unpacked."""
    receiver.answer = answer_always(200, Content_Encoding="gzip", Content_Length="1000000")
    target_of(timeout=2).send(some(1))
    assert receiver.requests[0].headers["accept-encoding"] == "identity"


def test_an_answer_that_never_ends_counts_by_its_status(
    receiver: WebhookReceiver, target_of: Open
) -> None:
    receiver.answer = answer_always(200, Content_Length="1000000")
    began = time.monotonic()
    target_of(timeout=1).send(some(1))
    assert time.monotonic() - began < 5


def test_nobody_listening_is_a_failure_like_others(target_of: Open) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/in"
        with pytest.raises(RetryLater, match=r"sink 'crm' .*cannot be reached") as failed:
            target_of(url=url).send(some(1))
    assert failed.value.after is not None


def test_a_receiver_that_hangs_up_is_a_failure_like_others(target_of: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:

        def hang_up() -> None:
            rude.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(RetryLater, match="cannot be reached"):
            target_of(url=f"http://127.0.0.1:{rude.getsockname()[1]}/in").send(some(1))
        thread.join()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_nothing_is_posted_inside_unless_that_is_allowed(
    receiver: WebhookReceiver, target_of: Open, host: str
) -> None:
    url = f"http://{host}:{receiver.port}/in"
    with pytest.raises(RetryLater, match=r"allow_private|no address"):
        target_of(url=url, allow_private=False).send(some(1))
    assert receiver.requests == []


def test_a_name_is_connected_by_the_address_that_was_judged(
    receiver: WebhookReceiver, target_of: Open
) -> None:
    """The name stays in the request; localhost may be ::1 first, where nobody listens."""
    target_of(url=f"http://localhost:{receiver.port}/in").send(some(1))
    assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"


def test_a_name_without_an_address_is_a_failure_like_others(target_of: Open) -> None:
    with pytest.raises(RetryLater, match="no address"):
        target_of(url="http://nobody.invalid/in").send(some(1))


PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]
PRIVATE = ["10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "100.64.0.1", "::1", "fd00::1"]
NEVER = [
    "169.254.169.254",
    "168.63.129.16",
    "0.0.0.0",  # noqa: S104 - it is refused
    "224.0.0.1",
    "fe80::1",
    "ff02::1",
    "::",
    "64:ff9b::169.254.169.254",
    "::ffff:169.254.169.254",
    "2002:a9fe:a9fe::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
]


def test_addresses_are_judged() -> None:
    judged = {text: ipaddress.ip_address(text) for text in (*PUBLIC, *PRIVATE, *NEVER)}
    assert [text for text, one in judged.items() if is_public(one)] == PUBLIC
    assert [text for text, one in judged.items() if is_private_host(one)] == [*PUBLIC, *PRIVATE]
    hidden = ("64:ff9b::10.0.0.1", "2002:a00:1::1", "2001::1", "fec0::1", "240.0.0.1")
    assert not any(is_public(ipaddress.ip_address(text)) for text in hidden)


def test_no_error_tells_a_secret(receiver: WebhookReceiver) -> None:
    receiver.answer = answer_always(500)
    given = {"url": f"{receiver.url}/hunter1", "allow_http": True, "allow_private": True}
    target = WebhookSender(
        "crm", parse_webhook_settings(given), [receiver.secret], query="k=hunter2"
    )
    with pytest.raises(RetryLater) as failed:
        target.send([Envelope(b'{"hunter3":1}', "event-1", 1, 1)])
    target.close()
    assert receiver.requests[0].path == "/in/hunter1?k=hunter2"
    told = f"{failed.value}{failed.value.__cause__}{failed.value.__context__}"
    assert "hunter" not in told
    assert "whsec" not in told


def stored(receiver: WebhookReceiver, **secrets: Any) -> Sink:
    given = {"url": receiver.url, "allow_http": True, "allow_private": True}
    return Sink(1, "crm", SinkKind.WEBHOOK, 1, settings=given, secrets=secrets)


@pytest.fixture
def plain() -> Settings:
    return load_settings()


def test_a_stored_sink_is_opened(receiver: WebhookReceiver, plain: Settings) -> None:
    target = open_sender(stored(receiver, keys=[receiver.secret], query="a=1"), plain)
    target.send(some(1))
    target.close()
    assert [one.path for one in receiver.requests] == ["/in?a=1"]


def test_a_stored_sink_without_a_secret_is_refused(
    receiver: WebhookReceiver, plain: Settings
) -> None:
    with pytest.raises(SinkMisconfigured, match="sink 'crm' has no signing secret"):
        open_sender(stored(receiver), plain)
    with pytest.raises(SinkMisconfigured, match="whsec_"):
        open_sender(stored(receiver, keys=["hunter2"]), plain)


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server that is ``name``, and a client that trusts its authority."""
    authority = Authority(folder)
    trust = ssl.create_default_context(cafile=str(authority.path))
    return authority.issue(name).build_context(), trust


@pytest.mark.parametrize(("name", "fits"), [("localhost", True), ("example.com", False)])
def test_the_certificate_must_be_that_of_the_name(tmp_path: Path, name: str, fits: bool) -> None:
    server, trust = certificate(tmp_path, name)
    with (
        run_receiver(server) as receiver,
        httpx.Client(transport=PinnedTransport(allow_private=True, ssl_context=trust)) as client,
    ):
        url = f"https://localhost:{receiver.port}/in"
        if fits:
            assert client.post(url, headers={"webhook-timestamp": "0"}).status_code == 401
            return
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            client.post(url)
        assert receiver.requests == []


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    server, _ = certificate(tmp_path, "localhost")
    with run_receiver(server) as receiver:
        url = f"https://localhost:{receiver.port}/in"
        settings = parse_webhook_settings({"url": url, "allow_private": True})
        target = WebhookSender("crm", settings, [receiver.secret])
        with pytest.raises(RetryLater, match="certificate verify failed"):
            target.send(some(1))
        target.close()
        assert receiver.requests == []


@contextmanager
def relayed(mirror: Mirror) -> Iterator[None]:
    """A relay at work."""
    database = Database(
        mirror.database.url.render_as_string(hide_password=False), pool_size=POOL_SIZE
    )
    stop = threading.Event()
    thread = threading.Thread(target=Relay(database, mirror.runtime.settings).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        database.close()


def subscribed(mirror: Mirror, receiver: WebhookReceiver, **more: Any) -> None:
    """A webhook that begins with the oldest event."""
    given = {"url": receiver.url, "allow_http": True, "allow_private": True, **more}
    new = admin.NewSink(
        "crm",
        SinkKind.WEBHOOK,
        settings=build_stored_settings(SinkKind.WEBHOOK, given),
        secrets={"keys": [receiver.secret]},
        start=SinkStart.OLDEST,
    )
    with mirror.database.open_transaction() as db:
        admin.add_sink(db, new, None)


def sequences(receiver: WebhookReceiver) -> list[int]:
    return [int(event["sequence"]) for one in receiver.requests for event in one.events]


def test_the_whole_history_arrives_in_order(mirror: Mirror, receiver: WebhookReceiver) -> None:
    subscribed(mirror, receiver, batch=50)
    last = read_last_seq(mirror.database)
    with relayed(mirror):
        wait_until(lambda: len(sequences(receiver)) >= last, 30, "the history")
        mirror.tenant.mutate(5)
        mirror.sync()
        more = read_last_seq(mirror.database)
        assert more > last
        wait_until(lambda: len(sequences(receiver)) >= more, 30, "what came after")
    assert sequences(receiver) == list(range(1, more + 1))
    assert all(receiver.is_signed(one) for one in receiver.requests)


def test_who_is_gone_is_left_alone_until_it_is_resumed(
    mirror: Mirror, receiver: WebhookReceiver
) -> None:
    receiver.answer = answer_always(410)
    subscribed(mirror, receiver, batch=100)
    state = "select status || ': ' || status_reason from events.sinks"
    with relayed(mirror):
        wait_until(
            lambda: str(fetch_scalar(mirror.database, state)).startswith("disabled: sink 'crm'"),
            30,
            "the sink to be switched off",
        )
        assert len(receiver.requests) == 1
        receiver.requests.clear()
        receiver.answer = answer_always(204)
        with mirror.database.open_transaction() as db:
            admin.resume_sink(db, "crm")
        last = read_last_seq(mirror.database)
        wait_until(lambda: len(sequences(receiver)) >= last, 30, "the history")
    assert sequences(receiver) == list(range(1, last + 1))


def test_a_failing_receiver_is_told_of_and_tried_again(
    mirror: Mirror, receiver: WebhookReceiver
) -> None:
    receiver.answer = answer_always(503, Retry_After="1")
    subscribed(mirror, receiver, batch=100)
    failing = "select failures from events.sinks where status_reason like '%503%' and retry_at > :t"
    with relayed(mirror):
        wait_until(
            lambda: (fetch_scalar(mirror.database, failing, t="2020-01-01") or 0) >= 2,
            30,
            "two failures to be noted",
        )
        receiver.requests.clear()
        receiver.answer = answer_always(204)
        last = read_last_seq(mirror.database)
        wait_until(lambda: len(sequences(receiver)) >= last, 30, "the history")
        wait_until(
            lambda: fetch_scalar(mirror.database, "select failures from events.sinks") == 0,
            30,
            "the failures to be forgotten",
        )
    assert sequences(receiver) == list(range(1, last + 1))
