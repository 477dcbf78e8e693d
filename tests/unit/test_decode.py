"""Bytes become pages; one malformed object costs itself and not its page."""

import json
from typing import Any

import pytest

from models.resource import DeletedReason, Resource
from models.resources import RESOURCES
from tests.support.every_type import EVERY_TYPE
from worker.core.errors import MalformedResponse
from worker.graph.decode import decode_changed, decode_object, decode_page
from worker.graph.json_scanner import count_items
from worker.graph.memberships import add_members, parse_members
from worker.graph.page import MAX_ODD_OBJECTS, Page, PageEdges
from worker.rows.shape import get_shape

USERS, GROUPS, SITES = RESOURCES["users"], RESOURCES["groups"], RESOURCES["sites"]
GROUP_MEMBERS = RESOURCES["group_members"]
ASSIGNMENTS = RESOURCES["role_assignments"]
NEXT = "https://graph.microsoft.com/v1.0/users?$skiptoken=a%2Bb"
DELTA = "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=c"


def guid(number: int) -> str:
    return f"0a0b0c0d-0000-4000-8000-{number:012x}"


def body(*objects: Any, **extra: Any) -> bytes:
    """A page; ``extra`` goes beside ``value``."""
    return json.dumps({"value": list(objects)} | extra).encode()


def users(*objects: Any, **extra: Any) -> Page:
    return decode_page(USERS, body(*objects, **extra))


def groups(*objects: Any) -> Page:
    return decode_page(GROUPS, body(*objects))


def members(page: Page) -> PageEdges:
    return page.get_edges("group_members")


def member(number: int, *, removed: bool = False, kind: str = "user") -> dict[str, Any]:
    entry: dict[str, Any] = {"@odata.type": f"#microsoft.graph.{kind}", "id": guid(number)}
    return entry | ({"@removed": {"reason": "deleted"}} if removed else {})


def value_of(page: Page, key: str, column: str, resource: str = "users") -> Any:
    return page.rows[key].row[RESOURCES[resource].column_names.index(column)]


# ---- pages and links


def test_a_page_with_a_next_link_is_not_the_last() -> None:
    page = users({"id": guid(1)}, **{"@odata.nextLink": NEXT})
    assert (page.next_link, page.delta_link, page.is_last) == (NEXT, None, False)
    assert (page.count, list(page.rows)) == (1, [guid(1)])


def test_a_page_with_a_delta_link_is_the_last() -> None:
    page = users(**{"@odata.deltaLink": DELTA})
    assert (page.next_link, page.delta_link, page.is_last) == (None, DELTA, True)


def test_a_page_without_links_is_the_last() -> None:
    assert users({"id": guid(1)}).is_last


def test_null_links_are_no_links() -> None:
    page = users(**{"@odata.nextLink": None, "@odata.deltaLink": None})
    assert (page.next_link, page.delta_link) == (None, None)


@pytest.mark.parametrize("name", ["@odata.nextLink", "@odata.deltaLink"])
@pytest.mark.parametrize("link", [7, ["x"], {"href": NEXT}, True])
def test_a_link_of_a_wrong_type_tears_the_page(name: str, link: object) -> None:
    with pytest.raises(MalformedResponse):
        users({"id": guid(1)}, **{name: link})


def test_links_survive_beside_a_malformed_object() -> None:
    page = users({"id": guid(1), "mail": 7}, **{"@odata.nextLink": NEXT, "@odata.deltaLink": None})
    assert page.next_link == NEXT


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"7",
        b'"value"',
        b"{}",
        b'{"value": null}',
        b'{"value": {}}',
        b'{"value": "x"}',
        b'{"error": {"code": "x"}}',
        b"<!doctype html><html><body>busy</body></html>",
        b'{"value": [',
        b'{"value": [{"id": "' + guid(1).encode() + b'"}',
        b'{"value": [], "@odata.nextLink": "https://graph.mic',
        b'{"value": []}{"value": []}',
        b"\x00\x01\x02",
    ],
)
def test_a_body_that_is_no_page_is_torn(nonsense: bytes) -> None:
    with pytest.raises(MalformedResponse) as caught:
        decode_page(USERS, nonsense)
    assert caught.value.after


@pytest.mark.parametrize("opening", [b"[", b'{"value":[],"x":' + b"[", b'{"value":[' + b"["])
def test_a_body_that_is_nested_without_end_is_torn(opening: bytes) -> None:
    with pytest.raises(MalformedResponse):
        decode_page(USERS, opening + b"[" * 100_000)


def test_unknown_properties_and_annotations_are_ignored() -> None:
    page = users(
        {"id": guid(1), "@odata.etag": "x", "aboutMe": {"deep": [1]}, "mail@odata.type": 3},
        **{"@odata.context": "x", "@microsoft.graph.tips": {"a": 1}, "@odata.count": 7},
    )
    assert list(page.rows) == [guid(1)]
    assert page.rejects == []


# ---- objects


def test_an_object_has_the_bits_of_what_was_sent() -> None:
    page = users({"id": guid(1), "mail": None, "jobTitle": "Clerk"})
    names = USERS.column_names
    bits = sum(1 << names.index(name) for name in ("id", "mail", "job_title"))
    assert page.rows[guid(1)].present == bits


def test_ids_in_upper_case_are_lower_cased() -> None:
    page = users({"id": guid(10).upper()}, {"id": guid(11).upper(), "@removed": {}})
    assert list(page.rows) == [guid(10)]
    assert list(page.removed) == [guid(11)]


def test_the_id_of_a_role_assignment_keeps_its_case() -> None:
    page = decode_page(ASSIGNMENTS, body({"id": "lAPp-1"}))
    assert list(page.rows) == ["lAPp-1"]


@pytest.mark.parametrize(
    ("removed", "reason"),
    [
        ({"reason": "changed"}, DeletedReason.SOFT_DELETED),
        ({"reason": "deleted"}, DeletedReason.PERMANENTLY_DELETED),
        ({}, DeletedReason.PERMANENTLY_DELETED),
        ({"reason": "something new"}, DeletedReason.PERMANENTLY_DELETED),
    ],
)
def test_a_tombstone_says_why(removed: dict[str, str], reason: DeletedReason) -> None:
    page = users({"id": guid(1), "@removed": removed})
    assert page.removed == {guid(1): reason}
    assert page.rows == {}


def test_the_last_of_two_tombstones_counts() -> None:
    page = users(
        {"id": guid(1), "@removed": {"reason": "changed"}},
        {"id": guid(1), "@removed": {"reason": "deleted"}},
    )
    assert page.removed == {guid(1): DeletedReason.PERMANENTLY_DELETED}
    assert page.conflicts == set()


@pytest.mark.parametrize("live_first", [True, False])
def test_an_object_both_live_and_removed_in_a_page_is_neither(*, live_first: bool) -> None:
    live, gone = {"id": guid(1), "mail": "a"}, {"id": guid(1).upper(), "@removed": {}}
    page = users(*((live, gone) if live_first else (gone, live)), {"id": guid(2)})
    assert page.conflicts == {guid(1)}
    assert list(page.rows) == [guid(2)]
    assert page.removed == {}


def test_an_object_that_comes_twice_is_folded_column_by_column() -> None:
    page = decode_page(
        USERS,
        body(
            {"id": guid(1), "mail": "old", "jobTitle": "Clerk", "city": "Kiel"},
            {"id": guid(1).upper(), "mail": "new", "city": None},
        ),
        hash_sources=True,
    )
    assert page.count == 2
    assert len(page.rows) == 1
    assert value_of(page, guid(1), "mail") == "new"
    assert value_of(page, guid(1), "job_title") == "Clerk"
    assert value_of(page, guid(1), "city") is None
    names = USERS.column_names
    for name in ("id", "mail", "job_title", "city"):
        assert page.rows[guid(1)].present >> names.index(name) & 1


# ---- over known ground

WHOLE = dict.fromkeys(USERS.selected)


def again(*objects: Any) -> Page:
    return decode_page(USERS, body(*objects), is_rewalk=True)


def test_over_known_ground_objects_are_left_unread() -> None:
    page = again({"id": guid(1).upper()}, {"id": guid(2), "accountEnabled": "a lie"})
    assert page.count == 2
    assert list(page.undecoded) == [guid(1), guid(2)]
    assert (page.keys, page.rejects) == ([], [])


def test_what_was_sent_as_before_is_not_read() -> None:
    page = again({"id": guid(1), "mail": "a"}, {"id": guid(2), "mail": "b"})
    decode_changed(page, USERS, {guid(2)})
    assert page.unchanged == [guid(1)]
    assert value_of(page, guid(2), "mail") == "b"
    assert page.keys == [guid(1), guid(2)]
    assert not page.undecoded


def test_what_cannot_be_understood_when_it_is_read_is_a_reject() -> None:
    page = again({"id": guid(1), "@removed": None}, {"id": guid(2)})
    assert [reject.key for reject in page.rejects] == [guid(1)]
    assert page.keys == [guid(2)]


def test_an_odd_value_that_was_left_unread_costs_itself_when_it_is_read() -> None:
    page = again(WHOLE | {"id": guid(1), "accountEnabled": "a lie", "mail": "a"})
    decode_changed(page, USERS, {guid(1)})
    assert value_of(page, guid(1), "mail") == "a"
    assert list(page.faults[guid(1)]) == ["accountEnabled"]
    assert page.rows[guid(1)].source_hash is None, "each full walk reads it again"


@pytest.mark.parametrize(
    "odd",
    [
        {"id": guid(1).upper()},
        {"id": guid(2), "@removed": {"reason": "changed"}},
        {"id": "no GUID"},
        {"id": 7},
        {},
    ],
)
def test_a_page_with_anything_odd_is_read_at_once(odd: dict[str, Any]) -> None:
    page = again({"id": guid(1), "mail": "a"}, odd)
    assert not page.undecoded
    assert value_of(page, guid(1), "mail") == "a"


def test_only_an_object_that_told_all_of_its_row_has_a_source() -> None:
    page = decode_page(USERS, body(WHOLE | {"id": guid(1)}, {"id": guid(2)}), hash_sources=True)
    sent = json.dumps(WHOLE | {"id": guid(1)}).encode()
    assert page.rows[guid(1)].source_hash == get_shape(USERS).hash_source(sent)
    assert page.rows[guid(2)].source_hash is None


def test_groups_are_read_at_once_as_their_members_come_with_them() -> None:
    page = decode_page(GROUPS, body({"id": guid(1), "members@delta": [member(2)]}), is_rewalk=True)
    assert list(members(page).found) == [(guid(1), guid(2))]
    assert not page.undecoded


# ---- members


def test_members_become_pairs_with_a_type() -> None:
    page = groups(
        {
            "id": guid(1).upper(),
            "members@delta": [
                member(2),
                member(3, kind="servicePrincipal"),
                member(4, kind="orgContact"),
                member(5, kind="somethingNew"),
                {"id": guid(6)},
            ],
        }
    )
    assert members(page).found == {
        (guid(1), guid(2)): "user",
        (guid(1), guid(3)): "service_principal",
        (guid(1), guid(4)): "org_contact",
        (guid(1), guid(5)): "other",
        (guid(1), guid(6)): "other",
    }


def test_a_member_that_is_removed_is_a_removal_of_the_pair_only() -> None:
    page = groups({"id": guid(1), "members@delta": [member(2, removed=True)]})
    assert members(page).found == {}
    assert members(page).removed == {(guid(1), guid(2)): DeletedReason.PERMANENTLY_DELETED}
    assert page.removed == {}
    assert list(page.rows) == [guid(1)]


@pytest.mark.parametrize("last_removed", [True, False])
def test_what_is_said_last_about_a_pair_counts(*, last_removed: bool) -> None:
    page = groups(
        {
            "id": guid(1),
            "members@delta": [member(2, removed=not last_removed), member(2, removed=last_removed)],
        }
    )
    pair = (guid(1), guid(2))
    assert (
        pair in members(page).removed,
        pair in members(page).found,
    ) == (last_removed, not last_removed)


def test_a_group_in_two_slices_brings_the_members_of_both() -> None:
    page = groups(
        {"id": guid(1), "displayName": "All", "members@delta": [member(2), member(3)]},
        {"id": guid(1), "members@delta": [member(4), member(2, removed=True)]},
    )
    assert set(members(page).found) == {(guid(1), guid(3)), (guid(1), guid(4))}
    assert set(members(page).removed) == {(guid(1), guid(2))}
    assert value_of(page, guid(1), "display_name", "groups") == "All"
    assert len(page.rows) == 1


def test_member_ids_in_upper_case_are_lower_cased() -> None:
    entry = member(10) | {"id": guid(10).upper()}
    page = groups({"id": guid(1), "members@delta": [entry]})
    assert set(members(page).found) == {(guid(1), guid(10))}


@pytest.mark.parametrize("identity", ["secret", f"{guid(2)}\n", 7, None])
def test_a_group_with_an_unreadable_member_is_a_reject(identity: object) -> None:
    """Nothing that is no GUID may reach a uuid column."""
    page = groups(
        {"id": guid(1), "members@delta": [{"id": identity}]}, {"id": guid(9), "members@delta": []}
    )
    assert members(page).found == {}
    assert [reject.key for reject in page.rejects] == [guid(1)]
    assert list(page.rows) == [guid(9)]


# ---- rejects


def test_an_id_that_is_not_utf8_is_rejected_and_others_are_read() -> None:
    other = b'{"id": "' + guid(1).encode() + b'"}'
    page = decode_page(USERS, b'{"value": [{"id": "\xff\xfe"}, ' + other + b"]}")
    assert [reject.key for reject in page.rejects] == [None]
    assert page.keys == [guid(1)]


def test_a_member_whose_type_is_not_utf8_is_a_member() -> None:
    item = b'{"id": "' + guid(10).encode() + b'", "@odata.type": "\xff"}'
    edges, _ = parse_members(guid(1), b'{"value": [' + item + b"]}")
    assert edges.keys() == {(guid(1), guid(10))}


def test_one_odd_value_costs_itself_and_not_its_object() -> None:
    page = users(
        {"id": guid(1), "displayName": "Ada"},
        {"id": guid(2).upper(), "displayName": ["not", "text"]},
        {"id": guid(3), "displayName": "Bo"},
    )
    assert list(page.rows) == [guid(1), guid(2), guid(3)]
    assert page.count == 3
    assert page.rejects == []
    assert value_of(page, guid(2), "display_name") is None
    assert list(page.faults) == [guid(2)]
    assert list(page.faults[guid(2)]) == ["displayName"]


@pytest.mark.parametrize(
    "bad",
    [
        {"accountEnabled": "hunter2"},
        {"businessPhones": ["hunter2", 7]},
        {"createdDateTime": "hunter2"},
        {"displayName": {"hunter2": 1}},
        {"assignedLicenses": "hunter2"},
        {"displayName": "hunter2\0"},
        {"assignedLicenses": [{"hunter2": "\ud800"}]},
        {"userPrincipalName": "hunter2" * 1000},
    ],
)
def test_a_fault_names_its_property_and_never_holds_the_value(bad: dict[str, Any]) -> None:
    page = users({"id": guid(1), "city": "Kiel"} | bad)
    ((name, why),) = page.faults[guid(1)].items()
    assert [name] == list(bad)
    assert why
    assert "hunter2" not in why
    assert value_of(page, guid(1), "city") == "Kiel"


def test_what_became_of_an_object_must_be_clear() -> None:
    (reject,) = users({"id": guid(1), "@removed": "hunter2"}).rejects
    assert reject.key == guid(1)
    assert "hunter2" not in reject.reason


@pytest.mark.parametrize(
    "unreadable",
    [
        {"displayName": "no id"},
        {"id": None},
        {"id": 7},
        {"id": "secret"},
        {"id": f"{guid(1)}\n"},
        {"id": "\ud800"},
        "text",
        None,
        7,
        [],
    ],
)
def test_an_object_without_a_readable_id_is_a_reject_without_a_key(unreadable: object) -> None:
    page = users({"id": guid(9)}, unreadable)
    assert [reject.key for reject in page.rejects] == [None]
    assert list(page.rows) == [guid(9)]


@pytest.mark.parametrize("identity", ["a\0b", "x" * 401, "a\ud800b"])
def test_an_id_that_postgres_cannot_keep_is_not_a_readable_key(identity: str) -> None:
    page = decode_page(ASSIGNMENTS, body({"id": identity, "condition": 7}, {"id": "good"}))
    assert [reject.key for reject in page.rejects] == [None]
    assert list(page.rows) == ["good"]


@pytest.mark.parametrize("identity", ["", "x" * 401])
def test_an_assignment_whose_id_is_no_key_is_a_reject(identity: str) -> None:
    """An id beyond what an index takes would end the whole transaction."""
    page = decode_page(ASSIGNMENTS, body({"id": identity}, {"id": "good"}))
    assert list(page.rows) == ["good"]
    assert [reject.key for reject in page.rejects] == [None]


@pytest.mark.parametrize("how", [{}, {"hash_sources": True}])
def test_a_nested_value_of_any_depth_costs_at_most_itself(how: dict[str, bool]) -> None:
    for depth in (1, 2, 5, 60, 70, 200, 800, 950, 1000, 3000, 100_000):
        nested = "[" * depth + "]" * depth
        text = (
            f'{{"value":[{{"id":"{guid(1)}","assignedLicenses":[{{"a":{nested}}}],"city":"K"}}]}}'
        )
        page = decode_page(USERS, text.encode(), **how)
        assert value_of(page, guid(1), "city") == "K"
        assert bool(page.faults) == (depth > 60)


@pytest.mark.parametrize(
    ("sent", "kept"), [("a\0b", "ab"), ("a\ud800b", "a\ufffdb"), ("\udfff", "\ufffd")]
)
def test_a_text_that_postgres_cannot_store_is_cleaned(sent: str, kept: str) -> None:
    page = users({"id": guid(1), "displayName": sent}, {"id": guid(2), "displayName": "fine"})
    assert value_of(page, guid(1), "display_name") == kept
    assert list(page.rows) == [guid(1), guid(2)]
    assert list(page.faults) == [guid(1)]


def test_a_nul_in_a_nested_value_is_removed() -> None:
    page = users({"id": guid(1), "assignedLicenses": [{"a\0": "b"}]})
    assert value_of(page, guid(1), "assigned_licenses") == [{"a": "b"}]
    assert list(page.faults[guid(1)]) == ["assignedLicenses"]


def test_an_odd_value_of_a_property_that_is_not_mirrored_does_not_matter() -> None:
    page = users({"id": guid(1), "extension": {"\0": "\ud800"}, "city": "Kiel"})
    assert value_of(page, guid(1), "city") == "Kiel"
    assert page.faults == {}


def test_of_an_object_that_comes_twice_the_last_value_counts_odd_or_not() -> None:
    page = users({"id": guid(1), "mail": 7, "city": 7}, {"id": guid(1), "mail": "a"})
    assert list(page.faults[guid(1)]) == ["city"]
    assert value_of(page, guid(1), "mail") == "a"


@pytest.mark.parametrize("number", ["1e16", "1e300", "1.5e300", "-0.0", "-0e5", "1E2", "-1e-400"])
def test_numbers_are_kept_as_postgres_gives_them_back(number: str) -> None:
    text = f'{{"value":[{{"id":"{guid(1)}","assignedLicenses":[{{"a":{number}}}]}}]}}'
    page = decode_page(USERS, text.encode())
    assert page.faults == {}
    ((kept,),) = (one.values() for one in value_of(page, guid(1), "assigned_licenses"))
    assert float(kept) == float(number)
    assert isinstance(kept, int) or (abs(kept) < 1e15 and not str(kept).startswith("-"))


def test_the_text_backslash_u0000_is_a_text_like_any_other() -> None:
    page = users({"id": guid(1), "displayName": r"a\u0000b"})
    assert value_of(page, guid(1), "display_name") == r"a\u0000b"


def test_surrogate_pairs_are_letters() -> None:
    page = users({"id": guid(1), "displayName": "\U0001f41d"})
    assert value_of(page, guid(1), "display_name") == "\U0001f41d"


def test_an_instant_beyond_the_calendar_is_null() -> None:
    page = users({"id": guid(1), "createdDateTime": "9999-12-31T23:59:59-12:00"}, {"id": guid(2)})
    assert value_of(page, guid(1), "created_date_time") is None
    assert list(page.rows) == [guid(1), guid(2)]


def test_a_site_is_malformed_where_its_web_has_no_guid() -> None:
    page = decode_page(SITES, body({"id": "a.example,b,c"}, {"id": f"a.example,x,{guid(2)}"}))
    assert [reject.key for reject in page.rejects] == [None]
    assert value_of(page, guid(2), "site_collection_id", "sites") is None
    assert list(page.faults[guid(2)]) == ["site_collection_id"]


def test_a_site_whose_id_cannot_be_stored_is_a_reject_with_its_key() -> None:
    page = decode_page(SITES, body({"id": f"a\0b,{guid(3)},{guid(2)}"}))
    assert [reject.key for reject in page.rejects] == [guid(2)]


@pytest.mark.parametrize("name", ["@odata.nextLink", "@odata.deltaLink"])
@pytest.mark.parametrize("bad", ["\0", "\ud800"])
def test_a_link_that_cannot_be_kept_tears_the_page(name: str, bad: str) -> None:
    with pytest.raises(MalformedResponse):
        users({"id": guid(1)}, **{name: NEXT + bad})


# ---- digests


def test_pages_with_the_same_content_have_the_same_digest() -> None:
    sent = [{"id": guid(1), "mail": "a"}, {"id": guid(2), "@removed": {}}]
    one = users(*sent, **{"@odata.nextLink": NEXT})
    two = users(*sent, **{"@odata.nextLink": f"{NEXT}2"})
    assert one.digest
    assert one.digest == two.digest


@pytest.mark.parametrize(
    "other",
    [
        [{"id": guid(1), "mail": "b"}],
        [{"id": guid(2), "mail": "a"}],
        [{"id": guid(1), "mail": "a"}, {"id": guid(2), "@removed": {}}],
        [{"id": guid(1), "mail": "a"}, {"id": guid(2), "mail": 7}],
    ],
)
def test_pages_with_other_content_have_another_digest(other: list[dict[str, Any]]) -> None:
    assert users({"id": guid(1), "mail": "a"}).digest != users(*other).digest


def test_slices_of_one_group_have_different_digests() -> None:
    one = groups({"id": guid(1), "members@delta": [member(2)]})
    two = groups({"id": guid(1), "members@delta": [member(3)]})
    three = groups({"id": guid(1), "members@delta": [member(2, removed=True)]})
    assert len({one.digest, two.digest, three.digest}) == 3


def test_an_empty_page_has_no_digest() -> None:
    assert users(**{"@odata.nextLink": NEXT}).digest == ""


# ---- single objects and lists of members


def test_an_object_read_by_its_id_is_a_page_of_one() -> None:
    page = decode_object(USERS, body_of({"@odata.context": "x", "id": guid(1), "mail": "a"}))
    assert list(page.rows) == [guid(1)]


@pytest.mark.parametrize("nonsense", [b"<html>", b"{", b"\xff", b" ", b"{}, {}"])
def test_an_object_that_is_no_json_is_torn(nonsense: bytes) -> None:
    with pytest.raises(MalformedResponse):
        decode_object(USERS, nonsense)


def test_an_empty_answer_to_a_read_by_id_is_torn() -> None:
    """An object that is not there is a 404, never a success without a body."""
    with pytest.raises(MalformedResponse):
        decode_object(USERS, b"")


def body_of(content: object) -> bytes:
    return json.dumps(content).encode()


def test_rows_of_a_member_list_are_pairs_even_without_properties() -> None:
    listed = [member(10) | {"id": guid(10).upper(), "displayName": None}, member(3, kind="device")]
    edges, link = parse_members(guid(1), body(*listed, **{"@odata.nextLink": NEXT}))
    assert edges == {(guid(1), guid(10)): "user", (guid(1), guid(3)): "device"}
    assert link == NEXT


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"[]",
        b"{}",
        b'{"value": {}}',
        b'{"value": [{"id": "x"}]}',
        b'{"value": [], "@odata.nextLink": 7}',
        b'{"value": [{"id": "' + guid(1).encode() + b'\\n"}]}',
        b'{"value": [], "x": ' + b"[" * 100_000,
    ],
)
def test_a_list_of_members_that_is_none_is_torn(nonsense: bytes) -> None:
    with pytest.raises(MalformedResponse):
        parse_members(guid(1), nonsense)


# ---- pages with more wrong objects than any has

WRONG = [
    "7",
    "null",
    "{}",
    "[]",
    "[[{}]]",
    '"text, with ] and \\" in it"',
    '{"id":7}',
    '{"id":"x"}',
    '{"id":"a\\u0000"}',
    '{"id":"\\ud800"}',
    '{"displayName":"a,b","id":null}',
    '{"id":"0a0b0c0d-0000-4000-8000-000000000001","@removed":[1,2]}',
]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("resource", [USERS, GROUPS], ids=lambda one: one.name)
def test_wrong_objects_are_noted_up_to_a_bound_and_the_rest_is_counted(
    resource: Resource, wrong: str, *, first: bool
) -> None:
    number = 3 * MAX_ODD_OBJECTS
    page = decode_page(
        resource, f'{{"value":[{",".join([wrong] * number)}]}}'.encode(), hash_sources=first
    )
    assert len(page.rejects) == MAX_ODD_OBJECTS
    assert page.skipped == number - MAX_ODD_OBJECTS
    assert page.count == number


def test_objects_whose_values_are_wrong_count_as_well() -> None:
    """Their rows are stored, and each of them is noted."""
    number = 2 * MAX_ODD_OBJECTS
    page = users(*({"id": guid(n), "createdDateTime": n} for n in range(number)))
    assert (len(page.rows), len(page.faults)) == (MAX_ODD_OBJECTS, MAX_ODD_OBJECTS)
    assert page.skipped == number - MAX_ODD_OBJECTS


def test_wrong_objects_that_were_sent_anew_count_as_well() -> None:
    number = 2 * MAX_ODD_OBJECTS
    sent = body(*({"id": guid(n), "createdDateTime": n} for n in range(number)))
    page = decode_page(USERS, sent, is_rewalk=True)
    decode_changed(page, USERS, set(page.undecoded))
    assert (len(page.rows), page.skipped) == (MAX_ODD_OBJECTS, number - MAX_ODD_OBJECTS)


def test_no_page_of_a_size_that_graph_has_is_left_before_its_end() -> None:
    page = users(*[7] * 998, {"id": guid(1)})
    assert (len(page.rejects), list(page.rows), page.skipped) == (998, [guid(1)], 0)


def test_what_stands_before_too_many_wrong_objects_is_kept() -> None:
    page = users({"id": guid(1)}, *[{}] * 5000, {"id": guid(2)}, **{"@odata.nextLink": NEXT})
    assert list(page.rows) == [guid(1)]
    assert (page.count, page.next_link) == (5002, NEXT)
    assert page.skipped == 5001 - MAX_ODD_OBJECTS


def test_a_list_of_wrong_members_is_read_up_to_the_bound() -> None:
    page = Page()
    link = add_members(page, GROUP_MEMBERS, guid(1), body(*[7] * 5000, **{"@odata.nextLink": NEXT}))
    assert link == NEXT
    assert len(page.rejects) == MAX_ODD_OBJECTS
    assert page.skipped == 5000 - MAX_ODD_OBJECTS


@pytest.mark.parametrize("wrong", ["[1 2]", "[1,,2]", "[7,]", "7", "{}", '"text"', "null"])
def test_a_list_that_is_none_is_torn_however_many_are_wrong(wrong: str) -> None:
    with pytest.raises(MalformedResponse):
        decode_page(USERS, f'{{"value":{wrong}}}'.encode())


@pytest.mark.parametrize(
    ("array", "number"),
    [
        ("[]", 0),
        (" [ ] ", 0),
        ("[1]", 1),
        ('["a,b]", "\\"", {"x": [1, 2, {}]}, [[],[]], null]', 5),
        (f"[{'[' * 60}{']' * 60},1]", 2),
        (f"[{'[' * 999}{']' * 999},1]", 1),
    ],
)
def test_elements_are_counted_without_taking_them_out(array: str, number: int) -> None:
    assert count_items(array) == number


# ---- whole numbers and single documents


def read_sample(name: str, value: str) -> tuple[Any, dict[str, str]]:
    """The stored value of a property that Graph sends so, and what was wrong with it."""
    body = f'{{"value":[{{"id":"{guid(1)}","{name}":{value}}}]}}'
    page = decode_page(EVERY_TYPE, body.encode())
    (incoming,) = page.rows.values()
    column = {"consumedUnits": "consumed_units", "orgData": "org_data"}[name]
    stored = incoming.row[EVERY_TYPE.column_names.index(column)]
    return stored, page.faults.get(guid(1), {})


@pytest.mark.parametrize("number", [0, 1, -1, 2**31, -(2**63), 2**63 - 1])
def test_a_whole_number_is_kept(number: int) -> None:
    assert read_sample("consumedUnits", str(number)) == (number, {})


@pytest.mark.parametrize(
    "sent", [str(2**63), str(-(2**63) - 1), "1.5", "true", '"7"', "[]", "1e400"]
)
def test_what_is_no_whole_number_of_64_bits_costs_itself(sent: str) -> None:
    stored, faults = read_sample("consumedUnits", sent)
    assert stored is None
    assert list(faults) == ["consumedUnits"]
    assert faults["consumedUnits"].endswith("it is stored as null")


def test_a_document_is_kept_as_it_was_sent_without_members_that_are_null() -> None:
    kept = {"division": "Sales", "more": {"a": [1, True, {"b": None}]}}
    sent = {"costCenter": None, **kept}
    assert read_sample("orgData", json.dumps(sent)) == (kept, {})
    assert read_sample("orgData", '{"division":null,"costCenter":null}') == (None, {})
    assert read_sample("orgData", "{}") == (None, {})
    assert read_sample("orgData", "null") == (None, {})


@pytest.mark.parametrize("sent", ["[]", '[{"a":1}]', '"x"', "7", "true"])
def test_what_is_no_document_costs_itself(sent: str) -> None:
    stored, faults = read_sample("orgData", sent)
    assert stored is None
    assert list(faults) == ["orgData"]


def test_a_document_is_cleaned_within() -> None:
    stored, faults = read_sample("orgData", '{"a\\u0000b":"c\\u0000","half":1.5}')
    assert stored == {"ab": "c", "half": 1.5}
    assert "NUL" in faults["orgData"]


# ---- complex values of which some fields are kept

PRINCIPALS = RESOURCES["service_principals"]
KEPT = ("keyId", "displayName", "startDateTime", "endDateTime")


def read_credentials(sent: str) -> tuple[Any, dict[str, str]]:
    page = decode_page(
        PRINCIPALS, f'{{"value":[{{"id":"{guid(1)}","keyCredentials":{sent}}}]}}'.encode()
    )
    (incoming,) = page.rows.values()
    stored = incoming.row[PRINCIPALS.column_names.index("key_credentials")]
    return stored, page.faults.get(guid(1), {})


def test_the_other_fields_of_a_credential_are_not_read() -> None:
    secret = {"key": "secret", "hint": [1, {"a": 2.5}], "customKeyIdentifier": 7}
    kept = {"keyId": guid(2), "displayName": "x", "startDateTime": None, "endDateTime": "2027"}
    assert read_credentials(json.dumps([kept | secret])) == ([kept], {})
    assert read_credentials(json.dumps([secret])) == ([dict.fromkeys(KEPT)], {})
    assert read_credentials("[]") == ([], {})
    assert read_credentials("null") == (None, {})


@pytest.mark.parametrize(
    ("sent", "names"),
    [
        ('[{"displayName":"a\\u0000b","hint":"secret"}]', ["ab"]),
        ('[{"displayName":"a","hint":"\\ud800 secret"}]', ["a"]),
        ('[{"displayName":["secret"]},{"displayName":"b"}]', [None, "b"]),
        ('["secret",null,7,{"displayName":"b","key":"secret\\u0000"}]', ["b"]),
    ],
)
def test_an_odd_credential_costs_itself_and_shows_no_other_field(
    sent: str, names: list[str | None]
) -> None:
    stored, faults = read_credentials(sent)
    assert [one["displayName"] for one in stored] == names
    assert all(tuple(one) == KEPT for one in stored)
    assert "secret" not in f"{stored}{faults}"


@pytest.mark.parametrize("sent", ['{"a":"secret"}', '"secret"', "7"])
def test_what_is_no_list_of_credentials_is_null(sent: str) -> None:
    stored, faults = read_credentials(sent)
    assert stored is None
    assert list(faults) == ["keyCredentials"]
    assert "secret" not in faults["keyCredentials"]


# ---- managers


@pytest.mark.parametrize("sent", [{}, {"id": None}, {"id": 7}, {"id": "\0"}, {"x": "\0"}, "x", []])
def test_a_manager_without_a_readable_id_costs_itself(sent: Any) -> None:
    managers = RESOURCES["managers"]
    page = decode_page(managers, body({"id": guid(1), "manager": sent}, {"id": guid(2)}))
    assert page.keys == [guid(1), guid(2)]
    assert value_of(page, guid(1), "manager_id", "managers") is None
    assert [*page.faults] == [guid(1)]
    assert [*page.faults[guid(1)]] == ["manager"]
    assert page.faults[guid(1)]["manager"].endswith("it is stored as null")
