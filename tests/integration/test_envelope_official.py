"""Whatever is told fits CloudEvents, by the official package, and our AsyncAPI document."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import structs
from sqlalchemy import text

from models.change_event import ChangeKind
from models.event_type import CONNECTION_RESOURCE, EVENT_TYPES
from models.property import TEXT
from models.resources import RESOURCES, STREAMED
from models.sink import SinkKind
from sandbox.tenant import KindCounts, Response, Tenant
from sandbox.tenant.directory.object_store import LifecycleState
from tests.support.event_validator import EventValidator
from tests.support.mirror import MakeMirror, MakeSynced, Mirror, assert_exact
from worker.core.settings import Settings
from worker.delivery.asyncapi import build_document
from worker.delivery.senders.sender import Envelope
from worker.delivery.senders.webhook import build_requests
from worker.delivery.store.rewind import rewind_history
from worker.delivery.store.sinks import Sink
from worker.delivery.store.snapshot import read_snapshot_page
from worker.delivery.test_event import build_test_envelope
from worker.events.envelope import CONTENT_TYPE, EnvelopeBuilder
from worker.events.event import Event, Position, SnapshotProgress
from worker.sync.connections.discover import discover

PREFIX = "com.example.mirror"
EPOCH = "01935b2c-7a1e-7c3d-9f00-5a0b7c1d2e3f"
JUDGE = EventValidator(build_document(PREFIX))


def parsed(body: bytes) -> CloudEvent:
    """As a receiver with the official package has it."""
    message = HTTPMessage({"content-type": CONTENT_TYPE}, body)
    event = from_structured(message, JSONFormat())
    assert isinstance(event, CloudEvent)
    return event


HISTORY = text("""
    select connection_id, seq, occurred_at, event_id::text, resource, object_id, change, changed,
           before::text, after::text, initial
      from events.change_events where connection_id = 1 order by seq
""")


def told(mirror: Mirror) -> list[Event]:
    with mirror.database.open_transaction() as db:
        return [Event(**row) for row in db.execute(HISTORY).mappings()]


def enveloped(mirror: Mirror, tenant_id: str | None) -> list[Envelope]:
    make = EnvelopeBuilder(PREFIX, 1, tenant_id, EPOCH).build
    return [Envelope(make(one), one.event_id, 1, one.seq) for one in told(mirror)]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Every resource is on, those included that are off by default."""
    return structs.replace(settings, resources_on=tuple(RESOURCES))


def eventful(mirror: Mirror) -> None:
    """One of everything that can happen to a small tenant."""
    tenant = mirror.tenant
    mirror.sync()
    user, group = tenant.create_user(), tenant.create_group()
    site, role = tenant.create_site(), tenant.create_role_definition()
    assignment = tenant.assign_role(role, user)
    device = "0e8f1d7c-2b7a-4a52-9f0e-5a0b7c1d2e3f"
    unit = tenant.administrative_units.id_at(0)
    ends = {"group_members": group, "group_owners": group, "administrative_unit_members": unit}
    tenant.add_member(group, user)
    for edge, parent in ends.items():
        tenant.add_edge(edge, parent, device, "device")
    mirror.sync()
    tenant.update_user(user, displayName='"\\\u2028 ü 🌊', department=None, assignedLicenses=[])
    tenant.update_group(group, description="\t{}%s", proxyAddresses=["smtp:a@example.com"])
    tenant.update_site(site, displayName="new")
    tenant.update_role_definition(role, description=None)
    tenant._update("role_assignments", assignment, {"condition": "a > 1"})
    for edge, parent in ends.items():
        tenant.remove_edge(edge, parent, device)
        tenant.add_edge(edge, parent, device, "servicePrincipal")
    tenant.mutate(20)
    for manager in (tenant.users.id_at(2), tenant.users.id_at(3), None, tenant.users.id_at(2)):
        tenant.set_manager(tenant.users.id_at(9), manager)
        mirror.sync("managers")
    mirror.sync()
    tenant.remove_member(group, user)
    tenant.unassign_role(assignment)
    tenant.delete_site(site)
    mirror.sync()
    tenant.add_member(group, user)
    tenant.assign_role(role, user)
    bring_back(tenant, "sites", site.rpartition(",")[2])
    mirror.sync()
    tenant.delete_role_definition(role)
    tenant.delete_user(user)
    tenant.delete_group(group)
    mirror.sync()
    tenant.restore_user(user)
    tenant.restore_group(group)
    bring_back(tenant, "role_definitions", role)
    mirror.sync()
    play_others(mirror)
    mirror.tenant.expire_delta_tokens()
    mirror.sync()
    let_a_column_come(mirror)
    assert_exact(mirror.database, tenant)


def play_others(mirror: Mirror) -> None:
    """Of every resource that nothing else here changes, one object changes, goes and comes back."""
    tenant, changes = mirror.tenant, {(event.resource, event.change) for event in told(mirror)}
    others = [
        one
        for one in STREAMED
        if one.has_events and not all((one.name, kind) in changes for kind in ChangeKind)
    ]
    ids = {one.name: str(next(tenant.iterate_live(one.name))["id"]) for one in others}
    for one in others:
        text_property = next(p for p in one.sent if p.type is TEXT and not p.key)
        tenant._update(one.name, ids[one.name], {text_property.graph_name: "Other"})
    mirror.sync()
    for one in reversed(others):  # what names another goes with it
        tenant.delete_object(one.name, ids[one.name])
    mirror.sync()
    for one in others:
        bring_back(tenant, one.name, ids[one.name])
    mirror.sync()


def let_a_column_come(mirror: Mirror) -> None:
    """Graph forgets a property, and knows it again: the walk that brings it tells of that once."""
    options = mirror.tenant.options
    options.unknown_properties = {"users.jobTitle"}
    mirror.sync(full=True)
    options.unknown_properties = set()
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set left_out = null, left_out_at = null"))
    mirror.sync(full=True)


def bring_back(tenant: Tenant, resource: str, object_id: str) -> None:
    """Graph never restores these, but a list may miss one and have it again."""
    shelf = tenant.store(resource)
    index = shelf.index_of(object_id)
    assert index is not None
    shelf.edit(index).state = LifecycleState.LIVE
    tenant._log_change(resource, index)


def retired_and_broken(mirror: Mirror) -> None:
    """What can become of the connection itself."""
    body = b'{"error": {"code": "server_error", "message": "Failed to get connection credentials"}}'
    reply = Response(400, body, {"content-type": "application/json"})
    mirror.nango.before_response = lambda r: reply if "/proxy" in r.path else None
    mirror.sync()
    mirror.nango.before_response = None
    mirror.sync()
    mirror.nango.remove_connection("contoso")
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)


def test_everything_that_is_told_fits_cloudevents_and_the_document(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(
        Tenant(seed=5, users=12, groups=4, sites=3, kinds=KindCounts.for_users(12))
    )
    eventful(mirror)
    retired_and_broken(mirror)
    rewind_history(mirror.database)
    envelopes = enveloped(mirror, mirror.tenant.tenant_id)
    seen = set()
    for number, envelope in enumerate(envelopes, 1):
        event, plain = parsed(envelope.body), json.loads(envelope.body)
        assert event.get_id() == envelope.event_id
        assert event.get_source() == "/connections/1"
        assert event.get_extension("sequence") == f"{number:019d}"
        assert event.get_extension("partitionkey") == "1"
        assert event.get_extension("epoch") == EPOCH
        assert event.get_time() == datetime.fromisoformat(plain["time"])
        assert event.get_data() == plain["data"]
        name = event.get_type().removeprefix(f"{PREFIX}.")
        assert JUDGE.find_problems(plain, f"/components/schemas/{name}") == []
        seen.add(name)
    assert set(seen) == set(EVENT_TYPES.values()) - {"connection.snapshot_completed"}


def test_a_batch_is_what_the_document_says_and_each_of_it_an_event(mirror: Mirror) -> None:
    envelopes = enveloped(mirror, None)[:150]
    found = []
    for message in build_requests(envelopes, 40):
        batch = json.loads(message.body)
        assert JUDGE.find_problems(batch, "/channels/webhook/messages/batch/payload") == []
        found += [parsed(json.dumps(one).encode()).get_id() for one in batch]
    assert found == [one.event_id for one in envelopes]


def test_a_snapshot_fits_as_well(make_synced: MakeSynced) -> None:
    mirror = make_synced(seed=3, users=60, groups=8, sites=6, kinds=KindCounts.for_users(60))
    rewind_history(mirror.database)
    last = told(mirror)[-1]
    cut = Position(1, last.seq, last.occurred_at, SnapshotProgress(rewound=True))
    sink = Sink(1, "feed", SinkKind.WEBHOOK, 1)
    with mirror.database.open_transaction() as connection:
        head, begun = read_snapshot_page(connection, sink, cut, 10_000)
    with mirror.database.open_transaction() as db:
        rows, _ = read_snapshot_page(db, sink, begun, 10_000)
    assert head == [last]
    make, seen = EnvelopeBuilder(PREFIX, 1, None, EPOCH).build, set()
    for one in rows:
        plain = json.loads(make(one))
        name = parsed(make(one)).get_type().removeprefix(f"{PREFIX}.")
        assert plain["data"]["snapshot"] is True
        assert JUDGE.find_problems(plain, f"/components/schemas/{name}") == []
        seen.add(plain["data"]["resource"])
    with_events = {name for name, one in RESOURCES.items() if one.has_events}
    assert seen == {*with_events, CONNECTION_RESOURCE}


def test_the_test_event_fits_too(mirror: Mirror) -> None:
    settings = structs.replace(mirror.runtime.settings, event_prefix=PREFIX)
    body = build_test_envelope("7c9b2f64-0d7e-4d52-9a39-0f3a0e0a5b11", "crm", settings)
    assert parsed(body).get_type() == f"{PREFIX}.test"
    assert JUDGE.find_problems(json.loads(body), "/components/schemas/test") == []


def event(**more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "connection_id": 3,
        "seq": 42,
        "occurred_at": datetime(2026, 1, 2, tzinfo=UTC),
        "event_id": "7c9b2f64-0d7e-4d52-9a39-0f3a0e0a5b11",
        "resource": "users",
        "object_id": "4f0c6a0e-58a1-4d3e-8a57-0d6f2a3c9b10",
        "change": "updated",
        "changed": ["department"],
        "before": '{"department": "Sales"}',
        "after": '{"department": null}',
    }
    made = EnvelopeBuilder(PREFIX, 3, None, EPOCH).build(Event(**{**base, **more}))
    found = json.loads(made)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "wrong",
    [
        {"changed": ["salary"]},
        {"changed": ["department", "department"]},
        {"changed": []},
        {"changed": None},
        {"before": None},
        {"after": "{}"},
        {"after": '{"department": 7}'},
        {"after": '{"account_enabled": "yes"}'},
        {"after": '{"proxy_addresses": "smtp:a"}'},
        {"after": '{"employee_hire_date": "2026-01-02 00:00:00+00"}'},
        {"after": '{"salary": "7"}'},
        {"object_id": "4F0C6A0E-58A1-4D3E-8A57-0D6F2A3C9B10"},
        {"change": "created", "changed": None, "before": None},
        {"change": "deleted", "changed": None},
        {"event_id": "7"},
        {"snapshot": True},
    ],
    ids=str,
)
def test_the_document_refuses_what_must_not_be_told(wrong: dict[str, Any]) -> None:
    name = f"/components/schemas/user.{wrong.get('change', 'updated')}"
    assert JUDGE.find_problems(event(), "/components/schemas/user.updated") == []
    assert JUDGE.find_problems(event(**wrong), name) != []


def test_the_official_package_refuses_what_is_no_event() -> None:
    one = event()
    del one["source"]
    with pytest.raises(CloudEventValidationError):
        parsed(json.dumps(one).encode())


NOBODY = "erased:0f3a0e0a5b110f3a0e0a5b110f3a0e0a"
GROUP = "4f0c6a0e-58a1-4d3e-8a57-0d6f2a3c9b10"
LEFT: dict[str, Any] = {"before": None, "after": None, "changed": None}


@pytest.mark.parametrize("change", ["created", "updated", "deleted", "restored"])
def test_an_erased_event_says_no_more_than_that_it_happened(change: str) -> None:
    for resource, object_id in (
        ("users", NOBODY),
        ("group_members", f"{GROUP}/{NOBODY}"),
        ("role_assignments", NOBODY),
    ):
        pointer = f"/components/schemas/{EVENT_TYPES[resource, change]}"
        left = {**LEFT, "resource": resource, "object_id": object_id, "change": change}
        assert JUDGE.find_problems(event(**left), pointer) == []
        more = event(**{**left, "after": '{"department": "Sales", "member_type": "user"}'})
        assert JUDGE.find_problems(more, pointer) != []


def test_a_deletion_that_closes_an_erasure_may_keep_its_key_and_nothing_else_may() -> None:
    for change in ("created", "updated", "deleted", "restored"):
        problems = JUDGE.find_problems(
            event(change=change, **LEFT), f"/components/schemas/user.{change}"
        )
        assert (problems == []) is (change == "deleted")


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(
    object_id=texts.filter(bool),
    values=st.dictionaries(st.sampled_from(["condition", "app_scope_id"]), texts, min_size=1),
    number=st.integers(1, 2**63 - 1),
    moment=st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - as Hypothesis wants it
)
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_text_comes_through_as_it_is(
    object_id: str, values: dict[str, str], number: int, moment: datetime
) -> None:
    one = Event(
        3,
        number,
        moment,
        "7c9b2f64-0d7e-4d52-9a39-0f3a0e0a5b11",
        "role_assignments",
        object_id,
        "updated",
        list(values),
        json.dumps(values),
        json.dumps(values, ensure_ascii=False),
    )
    body = EnvelopeBuilder(PREFIX, 3, object_id, EPOCH).build(one)
    event = parsed(body)
    data = event.get_data()
    assert isinstance(data, dict)
    assert event.get_subject() == f"role_assignments/{object_id}"
    assert data["key"] == {"id": object_id}
    assert data["tenant_id"] == object_id
    assert data["before"] == data["after"] == values
    assert data["changed"] == list(values)
    assert event.get_time() == moment
    assert event.get_extension("sequence") == f"{number:019d}"
    written = json.loads(JSONFormat().write(event))
    assert {**written, "time": ""} == {**json.loads(body), "time": ""}
