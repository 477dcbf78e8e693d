"""A sink begins with the rows of one moment, then the events behind it: no gap, no overlap."""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from models.resources import RESOURCES
from models.sink import SinkKind, SinkStart
from sandbox.tenant import Nango, Tenant
from tests.integration.test_relay import RelayEnvironment, Told, by_connection, differences, fold
from tests.support.mirror import Mirror, fetch_scalar, read_last_seq
from tests.support.service import wait_until
from tests.support.webhook_receiver import ReceivedRequest, WebhookReceiver, run_receiver
from worker.core.log import get_logger
from worker.delivery.store import admin, sinks
from worker.delivery.store.read import read_sink_events
from worker.delivery.store.snapshot import read_snapshot_page
from worker.events.envelope import EnvelopeBuilder
from worker.events.event import Event, SnapshotProgress
from worker.store.engine import Database
from worker.sync.connections.discover import discover

ROWS = """
    insert into directory.users (connection_id, id, display_name, first_seen_at, changed_at)
    select :id, gen_random_uuid(), 'someone', '2026-01-01', '2026-01-01'
      from generate_series(1, :number)
"""


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with run_receiver() as made:
        yield made


class Reading:
    """A sink's snapshot of one connection and the tail behind it, page by page, by hand."""

    def __init__(self, ground: RelayEnvironment, size: int, connection_id: int = 1) -> None:
        self.database, self.size = ground.database, size
        with self.database.open_transaction() as db:
            (self.sink,) = sinks.claim_sinks(db, "test", seconds=60, limit=9)
            found = sinks.list_backlogs(db, self.sink)
        (self.cut,) = (it.position for it in found if it.position.connection_id == connection_id)
        self.position = self.cut

    def page(self) -> list[Told]:
        with self.database.open_transaction() as db:
            told, self.position = read_snapshot_page(db, self.sink, self.position, self.size)
        return self._spelt(told)

    def snapshot(self) -> Iterator[list[Told]]:
        while self.position.snapshot is not None:
            yield self.page()

    def tail(self) -> list[Told]:
        with self.database.open_transaction() as db:
            told, self.position = read_sink_events(db, self.sink, self.position, 100_000)
        return self._spelt(told)

    def _spelt(self, told: list[Event]) -> list[Told]:
        make = EnvelopeBuilder("tenantmirror", self.cut.connection_id, None, self.sink.epoch).build
        return [json.loads(make(it)) for it in told]


def keep(database: Database) -> None:
    """A copy of the live rows of now."""
    with database.open_transaction() as db:
        for name in RESOURCES:
            rows = f"select * from directory.{name} where deleted_at is null"
            db.execute(text(f"create table public.kept_{name} as {rows}"))


def unlike_kept(database: Database, told: list[Told]) -> dict[str, int]:
    """How many rows differ between what was told and the copy, by resource."""
    found = {}
    for name, rows in fold(told).items():
        columns = ", ".join(f'"{column}"' for column in RESOURCES[name].column_names)
        folded = (
            f"select {columns} from jsonb_populate_recordset(null::directory.{name},"
            " cast(:rows as jsonb))"
        )
        kept = f"select {columns} from public.kept_{name}"
        statement = (
            f"select count(*) from (({folded} except {kept}) union all"
            f" ({kept} except {folded})) as d"
        )
        given = json.dumps(list(rows.values()))
        found[name] = int(fetch_scalar(database, statement, rows=given))
    return {name: number for name, number in found.items() if number}


def unlike_mirror(database: Database, told: list[Told]) -> dict[str, int]:
    """How many rows differ between what was told and the mirror, by resource."""
    found = {
        name: differences(database, name, list(rows.values())) for name, rows in fold(told).items()
    }
    return {name: number for name, number in found.items() if number}


def taken(got: list[Told]) -> list[Told]:
    """What a receiver keeps that drops what is smaller than the last sequence of the source."""
    last: dict[str, str] = {}
    kept = []
    for event in got:
        if event["sequence"] >= last.get(event["source"], ""):
            last[event["source"]] = event["sequence"]
            kept.append(event)
    return kept


def hook(receiver: WebhookReceiver, **more: Any) -> dict[str, Any]:
    """A webhook that begins with a snapshot, ten events at once."""
    return {
        "kind": SinkKind.WEBHOOK,
        "settings": {"url": receiver.url, "allow_http": True, "allow_private": True},
        "secrets": {"keys": [receiver.secret]},
        "start": SinkStart.SNAPSHOT,
        **more,
    }


def progress(database: Database, connection_id: int = 1) -> Any:
    statement = "select snapshot from events.positions where connection_id = :id"
    return fetch_scalar(database, statement, id=connection_id)


def test_all_pages_tell_the_cut_while_everything_goes_on_changing(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    mirror.tenant.mutate(20)
    mirror.sync()
    environment.add(start=SinkStart.SNAPSHOT)
    keep(mirror.database)
    reading = Reading(environment, size=11)
    told: list[Told] = []
    for page in reading.snapshot():
        assert len(page) <= 11
        told += page
        mirror.tenant.mutate(8)
        mirror.sync()
    assert unlike_kept(mirror.database, told) == {}
    assert {int(it["sequence"]) for it in told} == {reading.cut.seq}
    assert {it["data"]["snapshot"] for it in told} == {True}
    assert {it["data"]["initial"] for it in told} == {False}
    kinds = [it["type"].rpartition(".")[2] for it in told]
    assert set(kinds[:-1]) == {"created", "member_added", "assigned"}
    assert kinds[-1] == "snapshot_completed"
    assert len({it["id"] for it in told}) == len(told)
    tail = reading.tail()
    assert int(tail[0]["sequence"]) == reading.cut.seq + 1
    assert {it["data"]["snapshot"] for it in tail} == {False}
    assert unlike_mirror(mirror.database, told + tail) == {}
    times = [it["time"] for it in told + tail]
    assert times == sorted(times)


def test_each_kind_of_change_behind_the_cut_is_undone(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    tenant = mirror.tenant
    users = [tenant.users.id_at(number) for number in range(12)]
    group = tenant.create_group()
    for member in users[:5]:
        tenant.add_member(group, member)
    tenant.delete_user(users[8])
    mirror.sync()
    environment.add(start=SinkStart.SNAPSHOT)
    keep(mirror.database)
    reading = Reading(environment, size=1_000)
    tenant.update_user(users[0], jobTitle="Once")
    tenant.remove_member(group, users[1])
    tenant.delete_user(users[2])
    tenant.delete_user(users[3])
    tenant.restore_user(users[8])
    tenant.add_member(group, users[6])
    tenant.create_user()
    mirror.sync()
    tenant.update_user(users[0], jobTitle="Twice", department="Elsewhere")
    tenant.restore_user(users[3])
    tenant.add_member(group, users[1])
    tenant.delete_user(users[8])
    mirror.sync()
    (told,) = reading.snapshot()
    tail = reading.tail()
    seen = Counter((it["data"]["resource"], it["type"].rpartition(".")[2]) for it in tail)
    wanted = {("users", kind) for kind in ("created", "updated", "deleted", "restored")}
    wanted |= {("group_members", kind) for kind in ("member_added", "member_removed")}
    assert wanted <= set(seen)
    assert unlike_kept(mirror.database, told) == {}
    assert unlike_mirror(mirror.database, told + tail) == {}


def test_an_event_that_does_not_fit_is_named_in_the_log_and_ends_nothing(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    user = mirror.tenant.users.id_at(0)
    environment.add(start=SinkStart.SNAPSHOT)
    reading = Reading(environment, size=1_000)
    mirror.tenant.update_user(user, jobTitle="Once")
    mirror.sync()
    with mirror.database.open_transaction() as db:
        statement = """
            update events.change_events set after = jsonb_build_object('job_title', 'never')
             where seq > :cut and resource = 'users' returning seq
        """
        seq = db.execute(text(statement), {"cut": reading.cut.seq}).scalar_one()
    # A command that ran in this process leaves its logging to be configured by the first logger.
    get_logger()
    with capture_logs() as logs:
        assert list(reading.snapshot())
    (line,) = (line for line in logs if line["log_level"] == "warning")
    assert (line["connection_id"], line["resource"], line["sequence"]) == (1, "users", seq)
    assert "verify" in line["hint"]


def test_what_is_written_at_the_very_moment_of_the_cut_is_known_by_its_events(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    """A clock that stands still: everything behind the cut has its time."""
    environment.add(start=SinkStart.SNAPSHOT)
    keep(mirror.database)
    reading = Reading(environment, size=1_000)
    mirror.tenant.mutate(30)
    mirror.sync()
    values = {"at": reading.cut.occurred_at}
    late = "update events.change_events set occurred_at = :at where occurred_at > :at"
    with mirror.database.open_transaction() as db:
        db.execute(text(late), values)
        for name in RESOURCES:
            for column in ("first_seen_at", "changed_at"):
                rows = f"update directory.{name} set {column} = :at where {column} > :at"
                db.execute(text(rows), values)
    (told,) = reading.snapshot()
    assert unlike_kept(mirror.database, told) == {}


def test_a_whole_object_is_spelt_as_its_created_event_spells_it(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    environment.add("all")
    reading = Reading(environment, size=1_000)
    created = {it["subject"]: it["data"]["after"] for it in reading.tail()}
    del created["connection/1"]
    with environment.database.open_transaction() as db:
        admin.remove_sink(db, "all")
    environment.add(start=SinkStart.SNAPSHOT)
    (page,) = Reading(environment, size=1_000).snapshot()
    told = page[:-1]
    assert {it["subject"]: it["data"]["after"] for it in told} == created
    kinds = [it["data"]["resource"] for it in told]
    assert kinds == sorted(kinds, key=list(RESOURCES).index), "memberships come after their ends"


def test_a_receiver_ends_with_the_mirror_while_changes_go_on(
    mirror: Mirror, environment: RelayEnvironment, receiver: WebhookReceiver
) -> None:
    def answer(_: ReceivedRequest) -> tuple[int, dict[str, str]]:
        if len(receiver.requests) % 20 == 0:
            mirror.tenant.mutate(5)
            mirror.sync()
        return 204, {}

    receiver.answer = answer
    environment.add(**hook(receiver))
    environment.deliver()
    told = [event for one in receiver.requests for event in one.events]
    assert taken(told) == told
    assert len({it["id"] for it in told}) == len(told), "nothing comes twice"
    assert progress(mirror.database) is None
    assert environment.position(1) == read_last_seq(mirror.database)
    receiver.answer = lambda _: (204, {})
    environment.deliver()
    told = [event for one in receiver.requests for event in one.events]
    assert unlike_mirror(mirror.database, told) == {}


def test_no_transaction_is_open_while_a_receiver_takes_its_time(
    mirror: Mirror, environment: RelayEnvironment, receiver: WebhookReceiver
) -> None:
    idle = (
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and pid <> pg_backend_pid() and xact_start is not null"
    )
    closed = []

    def answer(_: ReceivedRequest) -> tuple[int, dict[str, str]]:
        if len(receiver.requests) == 15:
            wait_until(lambda: fetch_scalar(mirror.database, idle) == 0)
            closed.append(True)
        return 204, {}

    receiver.answer = answer
    environment.add(**hook(receiver))
    environment.deliver()
    assert closed == [True]


def test_who_is_killed_between_pages_repeats_one_page_with_the_same_ids(
    mirror: Mirror, environment: RelayEnvironment, receiver: WebhookReceiver
) -> None:
    environment.add(**hook(receiver))
    keep(mirror.database)
    killed = environment.process(TENANT_MIRROR_CRASH_AT="events-delivered:4")
    assert killed.wait(30) == -signal.SIGKILL
    assert progress(mirror.database)["rows"] == 30
    assert len(receiver.requests) == 40
    mirror.tenant.mutate(25)
    mirror.sync()
    environment.lapse()
    second = environment.process()
    last = read_last_seq(mirror.database)
    wait_until(lambda: environment.position(1) == last and progress(mirror.database) is None)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    told = [event for one in receiver.requests for event in one.events]
    ids = [event["id"] for event in told]
    assert ids[30:40] == ids[40:50]
    assert len(set(ids)) == len(ids) - 10
    assert unlike_kept(mirror.database, [it for it in told if it["data"]["snapshot"]]) == {}
    assert unlike_mirror(mirror.database, taken(told)) == {}


def test_filters_hold_for_a_snapshot_too(mirror: Mirror, environment: RelayEnvironment) -> None:
    environment.add("groups", resources=["groups"], initial=False, start=SinkStart.SNAPSHOT)
    environment.deliver()
    told = environment.received("groups")
    assert {it["data"]["resource"] for it in told[:-1]} == {"groups"}
    assert told[-1]["data"]["after"] == {"resources": ["groups"]}
    assert differences(mirror.database, "groups", list(fold(told)["groups"].values())) == 0
    with environment.database.open_transaction() as db:
        admin.remove_sink(db, "groups")
    environment.add("altered", changes=["updated", "deleted"], start=SinkStart.SNAPSHOT)
    mirror.tenant.mutate(25)
    mirror.sync()
    environment.deliver()
    told = environment.received("altered")
    assert told
    assert {it["data"]["snapshot"] for it in told} == {False}
    assert progress(mirror.database) is None


def test_each_connection_has_a_cut_of_its_own(environment: RelayEnvironment) -> None:
    first, second, third = environment.enrol(3)
    bare = (
        "delete from events.change_events where connection_id = :id",
        "update sync.leases set event_seq = 0, last_event_at = null where connection_id = :id",
    )
    with environment.database.open_transaction() as db:
        for one, number in ((first, 30), (second, 5)):
            db.execute(text(ROWS), {"id": one, "number": number})
        for statement in bare:
            db.execute(text(statement), {"id": third})
    environment.write(first, 7)
    environment.add(start=SinkStart.SNAPSHOT)
    cuts = {one: read_last_seq(environment.database, one) for one in (first, second)}
    for one in (first, second, third):
        environment.write(one, 2)
    *_, later = environment.enrol(1)
    environment.deliver()
    found = by_connection(environment.received())
    for one, rows in ((first, 30), (second, 5)):
        completed = [cuts[one]]
        assert found[one] == [cuts[one]] * rows + completed + [cuts[one] + 1, cuts[one] + 2]
    assert found[third] == [1, 2], "what never had an event has no rows"
    assert found[later] == [1], "a later one begins with its first event"


def test_a_snapshot_without_objects_tells_which_event_comes_next(
    environment: RelayEnvironment,
) -> None:
    (only,) = environment.enrol(1)
    cut = read_last_seq(environment.database, only)
    assert cut > 0
    environment.add(start=SinkStart.SNAPSHOT)
    environment.write(only, 2)
    environment.deliver()
    (completed, *tail) = environment.received()
    assert completed["type"] == "tenantmirror.connection.snapshot_completed"
    assert completed["data"]["after"] == {
        "resources": [name for name, one in RESOURCES.items() if one.has_events]
    }
    assert int(completed["sequence"]) == cut
    assert [int(it["sequence"]) for it in tail] == [cut + 1, cut + 2]


def test_a_sink_of_some_connections_gets_no_snapshot_of_others(
    environment: RelayEnvironment,
) -> None:
    first, second = environment.enrol(2)
    with environment.database.open_transaction() as connection:
        for one in (first, second):
            connection.execute(text(ROWS), {"id": one, "number": 4})
    environment.add(connections=[second], start=SinkStart.SNAPSHOT)
    environment.deliver()
    assert set(by_connection(environment.received())) == {second}
    with environment.database.open_transaction() as db:
        (row,) = admin.list_sinks(db)
    assert row["snapshots"] == 0


def test_a_long_snapshot_leaves_room_for_others(environment: RelayEnvironment) -> None:
    first, second = environment.enrol(2)
    with environment.database.open_transaction() as db:
        db.execute(text(ROWS), {"id": first, "number": 12_000})
    environment.add(start=SinkStart.SNAPSHOT)
    environment.write(second, 3)
    environment.deliver()
    told = environment.received()
    places = [n for n, it in enumerate(told) if it["data"]["connection_id"] == second]
    assert max(places) < 5_000
    completed = 2
    assert len(told) == 12_000 + completed + 3


def test_a_slow_receiver_hears_of_others_before_a_snapshot_ends(
    environment: RelayEnvironment, receiver: WebhookReceiver
) -> None:
    first, second = environment.enrol(2)
    with environment.database.open_transaction() as db:
        db.execute(text(ROWS), {"id": first, "number": 60})
    environment.add(**hook(receiver))
    delivery = environment.claim()
    delivery.round_seconds = 0.0
    assert delivery.deliver_round()
    environment.write(second, 1)
    while delivery.deliver_round():
        pass
    delivery.close()
    owners = [one.events[0]["data"]["connection_id"] for one in receiver.requests]
    turns = [first] * 10 + [second] + [first] * 10 + [second]
    assert owners[:22] == turns, "one turn each: ten requests, or what there is"
    completed = 2
    assert len(owners) == 60 + completed + 1


def test_operators_see_how_far_a_snapshot_is(environment: RelayEnvironment) -> None:
    first, second = environment.enrol(2)
    with environment.database.open_transaction() as connection:
        connection.execute(text(ROWS), {"id": first, "number": 9})
    sink_id = environment.add(start=SinkStart.SNAPSHOT)
    reading = Reading(environment, size=4, connection_id=first)
    reading.page()
    with environment.database.open_transaction() as connection:
        sinks.advance_positions(connection, reading.sink, [reading.position], seconds=60)
        (row,) = admin.list_sinks(connection)
        listed = admin.list_positions(connection, "feed")
    places = {it["connection_id"]: it for it in listed}
    assert row["id"] == sink_id
    assert (row["snapshots"], row["snapshot_rows"], row["waiting"]) == (2, 4, 0)
    assert places[first]["snapshot"]["resource"] == "users"
    assert places[first]["snapshot"]["rows"] == 4
    assert places[second]["snapshot"] == {}
    with environment.database.open_transaction() as db:
        again = [it.position for it in sinks.list_backlogs(db, reading.sink)]
    assert again[0] == reading.position
    assert (again[1].connection_id, again[1].snapshot) == (second, SnapshotProgress())


def test_a_page_goes_on_where_the_last_one_ended_within_pairs_and_texts(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    environment.add(start=SinkStart.SNAPSHOT)
    reading = Reading(environment, size=1)
    *subjects, completed = [it["subject"] for page in reading.snapshot() for it in page]
    assert completed == "connection/1"
    assert len(subjects) == len(set(subjects))
    live = sum(
        fetch_scalar(
            mirror.database, f"select count(*) from directory.{name} where deleted_at is null"
        )
        for name in RESOURCES
    )
    assert len(subjects) == live


def test_a_connection_may_keep_its_first_loads_to_itself(
    environment: RelayEnvironment, nango: Nango
) -> None:
    wish = {"tenant_mirror": {"initial_events": False}}
    nango.add_connection("quiet", Tenant(seed=90, users=1, groups=0, sites=0), metadata=wish)
    nango.add_connection("open", Tenant(seed=91, users=1, groups=0, sites=0))
    discover(environment.runtime.database, environment.runtime.nango, environment.runtime.settings)
    named = "select id from sync.connections where nango_connection_id = :name"
    quiet, spoken = (
        fetch_scalar(environment.database, named, name=name) for name in ("quiet", "open")
    )
    environment.add("all")
    environment.add("later", initial=False)
    for one in (quiet, spoken):
        environment.write(one, 3, initial=True)
        environment.write(one, 2)
    with environment.relay():
        for name, wanted in (("all", {quiet: 3, spoken: 6}), ("later", {quiet: 3, spoken: 3})):
            wait_until(
                lambda name=name, wanted=wanted: (  # type: ignore[misc]
                    {
                        one: len(seqs)
                        for one, seqs in by_connection(environment.received(name)).items()
                    }
                    == wanted
                )
            )
    assert environment.position(quiet) == read_last_seq(environment.database, quiet), (
        "left out, and behind us"
    )
    told = [it for it in environment.received("all") if it["data"]["connection_id"] == quiet]
    assert not any(it["data"]["initial"] for it in told)


def test_a_stop_waits_for_few_requests(
    environment: RelayEnvironment, receiver: WebhookReceiver
) -> None:
    (one,) = environment.enrol(1)
    environment.write(one, 60)
    environment.add(**hook(receiver, start=SinkStart.OLDEST))
    delivery = environment.claim()

    def answer(_: ReceivedRequest) -> tuple[int, dict[str, str]]:
        if len(receiver.requests) == 3:
            delivery.stop.set()
        return 204, {}

    receiver.answer = answer
    assert delivery.deliver_round()
    delivery.close()
    assert len(receiver.requests) == 10
    assert environment.position(one) == 10
