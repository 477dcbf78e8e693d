"""Any value in any property: the row is there, and all its other values are exact."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import structs

from models.resource import Resource
from models.resources import RESOURCES, STREAMED
from sandbox.tenant import KindCounts, Tenant
from tests.support.mirror import MakeMirror, Mirror, verify_connection
from worker.core.settings import Settings
from worker.events.append import append_events
from worker.graph.decode import decode_changed, decode_object, decode_page
from worker.graph.page import Page
from worker.rows.shape import get_shape
from worker.store.lease import interrupt_writer
from worker.store.mirror.merge import load_rows, merge_rows
from worker.store.state.quarantine import note_faults

GUID = "0a0b0c0d-0000-4000-8000-00000000000f"
KINDS = KindCounts.for_users(4)
RELAXED = hypothesis_settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.generate),
)


class Raw(str):
    """JSON that no encoder would write."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Raw({self[:20]!r}, {len(self)})"


def _deep(levels: int) -> Raw:
    return Raw('[{"a":' + "[" * levels + "]" * levels + "}]")


texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
odd_texts = st.sampled_from(
    [
        "\0",
        "a\0\0b",
        "\ud800",
        "\udc00\ud800",
        "\\u0000",
        "\\ud800",
        "-0.0",
        "]",
        '"',
        "é" * 4000,
        "",
    ]
)
odd_dates = st.sampled_from(
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "0002-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59.9999999Z",
        "9999-12-31T23:59:59-12:00",
        "10000-01-01T00:00:00Z",
        "-0044-03-15T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "2024-01-01",
        "24:00",
        "2024-W01-1",
        "infinity",
    ]
)
odd_numbers = st.sampled_from(
    [-0.0, 1e16, 1e22, -1e300, 5e-324, 2**63, 2**64, 10**400, 1.0, 1e15, 1234567890123456.5]
) | st.sampled_from(
    [Raw("1e400000"), Raw("-1e400"), Raw("1" * 5000), Raw("-0"), Raw("1E2"), Raw("-1.5e-400")]
)
plain = (
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    *(texts, odd_texts, odd_dates, odd_numbers),
    st.sampled_from([_deep(70), _deep(500), _deep(1000), _deep(5000), Raw('"a\tb"')]),
)
anything = st.recursive(
    st.one_of(*plain),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts | odd_texts, inner, max_size=3)
    ),
    max_leaves=6,
)


def written(value: Any) -> str:
    """JSON with the odd parts as they are."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{written(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def others(resource: Resource, tenant: Tenant) -> dict[str, Any]:
    """An object as Graph sends it in a list."""
    sent = dict(next(iter(tenant.iterate_live(resource.name))))
    names = ("id", *(one.graph_name for one in resource.sent))
    return {name: sent[name] for name in names if name in sent}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Every resource is on, those included that are off by default."""
    return structs.replace(settings, resources_on=tuple(RESOURCES))


@pytest.fixture
def stage(make_mirror: MakeMirror) -> Mirror:
    tenant = Tenant(
        seed=85,
        users=4,
        groups=2,
        sites=2,
        role_definitions=2,
        role_assignments=2,
        kinds=KINDS,
    )
    return make_mirror(tenant)


def merged(stage: Mirror, resource: Resource, page: Page) -> list[str]:
    """Store a page; what was told."""
    with interrupt_writer(stage.database, 1) as tx:
        changes = merge_rows(tx, resource, page.rows)
        append_events(tx, [(resource, changes)], run_id=None)
        note_faults(tx, resource, {k: v.present for k, v in page.rows.items()}, page.faults)
    return [str(change.kind) for change in changes]


@pytest.mark.parametrize("resource", STREAMED, ids=lambda one: one.name)
@given(data=st.data())
@RELAXED
def test_a_hostile_value_costs_itself(
    stage: Mirror, resource: Resource, data: st.DataObject
) -> None:
    whole = others(resource, stage.tenant)
    spoilt = [name for name in whole if name != "id"]
    name = data.draw(st.sampled_from(spoilt))
    body = written({**whole, name: data.draw(anything)})
    page = f'{{"value":[{body}]}}'.encode()
    exact = decode_page(resource, json.dumps({"value": [whole]}).encode())
    (key,) = exact.rows
    for how in ({}, {"hash_sources": True}, {"is_rewalk": True}):
        read = decode_page(resource, page, **how)
        decode_changed(read, resource, set(read.undecoded))
        assert list(read.rows) == [key]
        assert not read.rejects
    alone = decode_object(resource, body.encode())
    assert alone.rows[key][:3] == read.rows[key][:3]
    assert alone.faults == read.faults
    told = merged(stage, resource, read)
    assert len(told) <= 1
    assert merged(stage, resource, alone) == [], "what is stored is what was read"
    with interrupt_writer(stage.database, 1) as tx:
        stored = load_rows(tx, resource, [key])[key].row
    shape = get_shape(resource)
    assert shape.hash_row(stored) == read.rows[key].hash
    bits = resource.columns_of({name})
    touched = {column for i, column in enumerate(shape.names) if bits >> i & 1}
    touched |= {"hostname"} if name == "siteCollection" else set()  # the id may tell it as well
    right = exact.rows[key].row
    for column, found, wanted in zip(shape.names, stored, right, strict=True):
        if column not in touched:
            assert found == wanted, column
    assert verify_connection(stage.database).problems == []


def test_members_of_a_group_with_an_odd_value_come_with_it() -> None:
    groups = RESOURCES["groups"]
    member = {"id": GUID, "@odata.type": 7, "displayName": "\ud800"}
    sent = {"id": GUID, "displayName": "\0", "members@delta": [member]}
    page = decode_page(groups, json.dumps({"value": [sent]}).encode())
    assert page.get_edges("group_members").found == {(GUID, GUID): "other"}
    assert list(page.faults) == [GUID]
