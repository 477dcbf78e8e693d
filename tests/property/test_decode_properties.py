"""Whatever comes, decoding ends in a page or in Torn."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.property import GUID as GUID_TYPE
from models.resource import Resource
from models.resources import EDGES_IN, RESOURCES, STREAMED
from tests.support.every_type import EVERY_TYPE
from worker.core.errors import MalformedResponse
from worker.graph.decode import decode_changed, decode_object, decode_page
from worker.graph.memberships import parse_members
from worker.graph.page import Page
from worker.rows.incoming import encode_rows

DECODED = (*STREAMED, EVERY_TYPE)
GUID = "0A0B0C0D-0000-4000-8000-00000000000F"
RELAXED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.sampled_from(
        [GUID, GUID.lower(), f"{GUID}\n", f"a,{GUID},{GUID}", "a,b,c", "\0", "\ud800"]
    )
    | st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2024-02-30", "24:00"])
    | st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def objects(resource: Resource) -> st.SearchStrategy[Any]:
    """Objects that look like the resource, with anything in any property."""
    removed = st.sampled_from(["changed", "deleted", "x"]).map(lambda why: {"reason": why})
    member = st.fixed_dictionaries(
        {"id": st.just(GUID) | scalars}, optional={"@odata.type": scalars, "@removed": removed}
    )
    properties: dict[str, st.SearchStrategy[Any]] = {
        name: scalars | anything for name in resource.selected if name != "id"
    }
    extra: dict[str, st.SearchStrategy[Any]] = {"@removed": removed | anything}
    for name in sorted({"members", *resource.relations}):
        extra[f"{name}@delta"] = st.lists(member, max_size=4)
    return st.fixed_dictionaries(
        {"id": st.uuids().map(lambda one: str(one).upper()) | scalars},
        optional=properties | extra,
    )


def read(resource: Resource, body: bytes, **how: bool) -> Page | None:
    """The page, all of it understood; None where it is torn."""
    try:
        page = decode_page(resource, body, **how)
        decode_changed(page, resource, set(page.undecoded))
    except MalformedResponse:
        return None
    return page


def told(page: Page | None) -> Any:
    """What must not depend on how a page is read."""
    if page is None:
        return None
    rows = {key: incoming[:3] for key, incoming in page.rows.items()}
    rest = (
        page.removed,
        {name: (edges.found, edges.removed) for name, edges in page.edges.items()},
        page.conflicts,
        sorted(map(str, page.rejects)),
    )
    return rows, rest, (page.count, page.next_link, page.delta_link)


def judged(resource: Resource, body: bytes) -> Page | None:
    """The page, checked for what must hold for every page; None where it is torn."""
    page = read(resource, body)
    first, again = read(resource, body, hash_sources=True), read(resource, body, is_rewalk=True)
    assert told(page) == told(first) == told(again)
    if page is None:
        return None
    keys = {*page.rows, *page.removed}
    assert not page.rows.keys() & page.removed.keys()
    assert not page.conflicts & keys
    if resource.key_columns[0].type is GUID_TYPE:
        assert all(key == key.lower() for key in keys | page.conflicts)
    assert page.edges.keys() == {edge.name for edge in EDGES_IN.get(resource.name, ())}
    for edges in page.edges.values():
        pairs = {*edges.found, *edges.removed}
        assert not edges.found.keys() & edges.removed.keys()
        assert all(end == end.lower() and len(end) == 36 for pair in pairs for end in pair)
    assert len(page.rows) + len(page.removed) + len(page.rejects) <= page.count
    for key, incoming in page.rows.items():
        assert incoming.row[0] == key
        assert incoming.present & 1
        assert len(incoming.row) == len(resource.columns)
    encoded = encode_rows(resource, page.rows)
    assert [*encoded.jsons] == [*encoded.lines] == [*page.rows]
    assert not any("\0" in one.decode() for kind in encoded for one in kind.values())
    for key in (reject.key for reject in page.rejects if reject.key is not None):
        key.encode()
    return page


@pytest.mark.parametrize("resource", DECODED, ids=lambda resource: resource.name)
@given(body=st.binary(max_size=200))
@RELAXED
def test_any_bytes_are_a_page_or_torn(resource: Resource, body: bytes) -> None:
    judged(resource, body)


@given(document=anything)
@RELAXED
def test_any_document_is_a_page_or_torn(document: Any) -> None:
    judged(RESOURCES["groups"], json.dumps(document).encode())


@pytest.mark.parametrize("resource", DECODED, ids=lambda resource: resource.name)
@given(data=st.data())
@RELAXED
def test_any_objects_are_rows_removals_or_rejects(resource: Resource, data: st.DataObject) -> None:
    listed = data.draw(st.lists(objects(resource) | anything, max_size=5))
    page = judged(resource, json.dumps({"value": listed}).encode())
    assert page is not None
    assert page.count == len(listed)


@given(cut=st.integers(0, 200), junk=st.binary(max_size=4))
@example(cut=10, junk=b"")
@RELAXED
def test_a_page_that_was_cut_is_torn(cut: int, junk: bytes) -> None:
    whole = json.dumps(
        {"value": [{"id": GUID, "displayName": "Ada"}], "@odata.nextLink": "https://x/"}
    ).encode()
    place = min(cut, len(whole) - 1)
    broken = whole[:place] + junk
    if broken.rstrip() != whole:
        assert judged(RESOURCES["users"], broken) is None


@given(body=st.binary(max_size=100) | anything.map(lambda value: json.dumps(value).encode()))
@RELAXED
def test_any_answer_to_a_read_by_id_is_a_page_or_torn(body: bytes) -> None:
    try:
        decode_object(RESOURCES["users"], body)
    except MalformedResponse:
        return


@given(
    body=st.binary(max_size=100)
    | anything.map(lambda value: json.dumps({"value": value}).encode())
    | st.lists(st.fixed_dictionaries({"id": scalars}, optional={"@odata.type": scalars})).map(
        lambda value: json.dumps({"value": value}).encode()
    )
)
@RELAXED
def test_any_list_of_members_is_pairs_or_torn(body: bytes) -> None:
    try:
        edges, _ = parse_members(GUID.lower(), body)
    except MalformedResponse:
        return
    assert all(len(end) == 36 for pair in edges for end in pair)
