"""Envelopes: spliced from text, and still exactly CloudEvents in JSON."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from models.event_type import EVENT_TYPES
from models.resources import RESOURCES
from worker.delivery.store.snapshot import build_snapshot_event_id
from worker.events.envelope import EnvelopeBuilder
from worker.events.event import Event

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ID = "0d7f2c1e-0000-4000-8000-000000000001"
EPOCH = "01935b2c-7a1e-7c3d-9f00-5a0b7c1d2e3f"


def told(**more: Any) -> Event:
    base: dict[str, Any] = {
        "connection_id": 3,
        "seq": 42,
        "occurred_at": MOMENT,
        "event_id": ID,
        "resource": "users",
        "object_id": "u-1",
        "change": "created",
    }
    return Event(**{**base, **more})


def read(one: Event, tenant: str | None = "t-1") -> dict[str, Any]:
    found = json.loads(EnvelopeBuilder("tenantmirror", 3, tenant, EPOCH).build(one))
    assert isinstance(found, dict)
    return found


def test_an_envelope_is_a_cloud_event_with_the_change_as_its_data() -> None:
    event = told(
        change="updated",
        changed=["mail"],
        before='{"mail": "a"}',
        after='{"mail": "ü\\n\\u2028"}',
        initial=True,
    )
    assert read(event) == {
        "specversion": "1.0",
        "id": ID,
        "source": "/connections/3",
        "type": "tenantmirror.user.updated",
        "subject": "users/u-1",
        "time": "2026-01-02T03:04:05.000000Z",
        "datacontenttype": "application/json",
        "sequence": "0000000000000000042",
        "epoch": EPOCH,
        "partitionkey": "3",
        "data": {
            "connection_id": 3,
            "tenant_id": "t-1",
            "resource": "users",
            "key": {"id": "u-1"},
            "changed": ["mail"],
            "before": {"mail": "a"},
            "after": {"mail": "ü\n\u2028"},
            "initial": True,
            "snapshot": False,
        },
    }


@pytest.mark.parametrize("odd", ['a"b', "a\\b", "a\nb", "ä,ö", "\u2028", "a b", "{}%s%d"])
def test_odd_ids_come_through_as_they_are(odd: str) -> None:
    found = read(told(object_id=odd), tenant=None)
    assert found["subject"] == f"users/{odd}"
    assert found["data"]["key"] == {"id": odd}
    assert found["data"]["tenant_id"] is None


def test_every_resource_and_change_has_a_type_and_its_key_by_name() -> None:
    types = set()
    for resource, change in EVENT_TYPES:
        found = read(told(resource=resource, change=change, object_id="a/b"))
        types.add(found["type"])
        names = RESOURCES[resource].key if resource in RESOURCES else ("connection_id",)
        parts = ["a/b"] if len(names) == 1 else ["a", "b"]
        assert found["data"]["key"] == dict(zip(names, parts, strict=True))
    assert {"tenantmirror.group.member_added", "tenantmirror.connection.broken"} <= types


def test_times_are_those_of_each_event_in_utc() -> None:
    make = EnvelopeBuilder("tenantmirror", 3, None, EPOCH).build
    east = timezone(timedelta(hours=2))
    moments = [MOMENT, MOMENT, MOMENT.astimezone(east), MOMENT + timedelta(microseconds=7)]
    times = [json.loads(make(told(occurred_at=moment)))["time"] for moment in moments]
    assert times == ["2026-01-02T03:04:05.000000Z"] * 3 + ["2026-01-02T03:04:05.000007Z"]


def test_a_snapshot_event_has_one_id_however_often_it_is_made() -> None:
    first = build_snapshot_event_id(3, "users", "u-1", 42, EPOCH)
    assert first == build_snapshot_event_id(3, "users", "u-1", 42, EPOCH)
    others = {
        build_snapshot_event_id(4, "users", "u-1", 42, EPOCH),
        build_snapshot_event_id(3, "users", "u-1", 43, EPOCH),
        build_snapshot_event_id(3, "users", "u-1", 42, EPOCH.replace("7a1e", "7a1f")),
    }
    assert first not in others
    assert len(others) == 3
