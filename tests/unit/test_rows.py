"""Records become rows: absent, null and value stay three things, and the hash is pinned."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from models.record import Record
from models.resources import RESOURCES, STREAMED
from worker.rows.hash import HASH_VERSION
from worker.rows.shape import Row, get_shape

GUID = "0a1b2c3d-0000-4000-8000-00000000000f"
OTHER = "9f8e7d6c-0000-4000-8000-00000000000e"


def record(resource: str, **sent: Any) -> Record:
    """A record out of what Graph sent; names are Graph's."""
    return msgspec.convert(sent, RESOURCES[resource].record)


def named(resource: str, row: Row) -> dict[str, Any]:
    return dict(zip(RESOURCES[resource].column_names, row, strict=True))


def row_of(resource: str, **sent: Any) -> dict[str, Any]:
    row, _ = get_shape(RESOURCES[resource]).row_from_record(record(resource, **sent))
    return named(resource, row)


def present_of(resource: str, **sent: Any) -> set[str]:
    """The columns that count as sent."""
    _, present = get_shape(RESOURCES[resource]).row_from_record(record(resource, **sent))
    names = RESOURCES[resource].column_names
    return {name for index, name in enumerate(names) if present >> index & 1}


def hash_of(resource: str, **sent: Any) -> bytes:
    shape = get_shape(RESOURCES[resource])
    return shape.hash_row(shape.row_from_record(record(resource, **sent))[0])


# ---- absent, null, value


def test_absent_null_and_value_are_three_things() -> None:
    sent = {"id": GUID, "mail": None, "jobTitle": "Clerk"}
    row = row_of("users", **sent)
    assert (row["job_title"], row["mail"], row["department"]) == ("Clerk", None, None)
    assert present_of("users", **sent) == {"id", "mail", "job_title"}


def test_a_whole_object_has_every_bit_set() -> None:
    resource = RESOURCES["role_definitions"]
    nulls: dict[str, Any] = dict.fromkeys(resource.column_names)
    record = resource.record(**(nulls | {"id": GUID}))
    _, present = get_shape(resource).row_from_record(record)
    assert present == (1 << len(resource.columns)) - 1
    assert present == get_shape(resource).all_columns


def test_an_empty_list_and_false_are_values() -> None:
    sent = {"id": GUID, "proxyAddresses": [], "accountEnabled": False}
    row = row_of("users", **sent)
    assert row["proxy_addresses"] == []
    assert row["account_enabled"] is False
    assert present_of("users", **sent) == {"id", "proxy_addresses", "account_enabled"}


@pytest.mark.parametrize("resource", [one.name for one in STREAMED])
def test_values_stand_in_the_order_of_the_columns(resource: str) -> None:
    declared = RESOURCES[resource]
    row, _ = get_shape(declared).row_from_record(declared.record(id=GUID))
    assert len(row) == len(declared.columns)
    assert row[0] == GUID


# ---- ids


def test_guids_are_lower_cased() -> None:
    assert row_of("users", id=GUID.upper())["id"] == GUID
    row = row_of(
        "role_assignments", id="lAPp-1", principalId=GUID.upper(), roleDefinitionId=OTHER.upper()
    )
    assert (row["principal_id"], row["role_definition_id"]) == (GUID, OTHER)


def test_the_id_of_a_role_assignment_is_opaque_and_kept_as_it_came() -> None:
    assert row_of("role_assignments", id="lAPp_Qa-1")["id"] == "lAPp_Qa-1"


@pytest.mark.parametrize(
    ("resource", "identity", "column"),
    [
        ("sites", "contoso.example,secret,value", "id"),
        ("sites", f"contoso.example,secret,{GUID}", "site_collection_id"),
        ("users", "secret", "id"),
        ("users", f"{GUID}\n", "id"),
        ("users", f"{{{GUID}}}", "id"),
        ("users", GUID.replace("-", ""), "id"),
    ],
)
def test_a_bad_guid_names_its_column_and_not_its_value(
    resource: str, identity: str, column: str
) -> None:
    declared = RESOURCES[resource]
    with pytest.raises(ValueError, match=f"^{column}: ") as caught:
        get_shape(declared).row_from_record(declared.record(id=identity))
    assert identity not in str(caught.value)
    assert "secret" not in str(caught.value)


# ---- instants


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("2024-02-29T12:30:45Z", datetime(2024, 2, 29, 12, 30, 45, tzinfo=UTC)),
        ("2024-02-29T12:30:45.12Z", datetime(2024, 2, 29, 12, 30, 45, 120_000, tzinfo=UTC)),
        ("2024-02-29T12:30:45.123Z", datetime(2024, 2, 29, 12, 30, 45, 123_000, tzinfo=UTC)),
        ("2024-02-29T12:30:45.1234569Z", datetime(2024, 2, 29, 12, 30, 45, 123_456, tzinfo=UTC)),
        ("2024-02-29T12:30:45.9999999Z", datetime(2024, 2, 29, 12, 30, 45, 999_999, tzinfo=UTC)),
        ("2024-02-29T12:30:45+02:00", datetime(2024, 2, 29, 10, 30, 45, tzinfo=UTC)),
        ("2024-02-29T23:30:45-05:30", datetime(2024, 3, 1, 5, 0, 45, tzinfo=UTC)),
        ("2024-02-29T12:30:45", datetime(2024, 2, 29, 12, 30, 45, tzinfo=UTC)),
        ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
        ("2299-12-31T00:00:00Z", datetime(2299, 12, 31, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00.0000000Z", None),
        ("0001-01-01T00:00:00", None),
        ("0001-01-01T00:00:00+05:00", None),
    ],
)
def test_instants_are_utc_with_microseconds_and_year_one_is_never(
    sent: str, stored: datetime | None
) -> None:
    row = row_of("users", id=GUID, createdDateTime=sent)
    assert row["created_date_time"] == stored
    if stored is not None:
        assert row["created_date_time"].utcoffset() == UTC.utcoffset(None)


def test_year_one_counts_as_sent() -> None:
    assert "created_date_time" in present_of(
        "users", id=GUID, createdDateTime="0001-01-01T00:00:00Z"
    )


@pytest.mark.parametrize("sent", ["secret", "2024-13-40T00:00:00Z", "", "hunter2@example.test"])
def test_a_bad_instant_names_its_column_and_not_its_value(sent: str) -> None:
    with pytest.raises(ValueError, match=r"^employee_hire_date: ") as caught:
        row_of("users", id=GUID, employeeHireDate=sent)
    assert not sent or sent not in str(caught.value)


@pytest.mark.parametrize("sent", ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.9999999-00:01"])
def test_an_instant_beyond_the_calendar_is_a_value_error(sent: str) -> None:
    with pytest.raises(ValueError, match=r"^created_date_time: "):
        row_of("users", id=GUID, createdDateTime=sent)


# ---- hash and JSON

ADA = {
    "id": GUID,
    "userPrincipalName": "ada@contoso.example",
    "displayName": "Ada Quill",
    "givenName": "Ada",
    "surname": "Quill",
    "mail": None,
    "accountEnabled": True,
    "createdDateTime": "2024-02-29T12:30:45.1234569Z",
    "businessPhones": ["+49 30 1", "+49 30 2"],
    "proxyAddresses": ["smtp:b@contoso.example", "SMTP:a@contoso.example"],
    "assignedLicenses": [{"skuId": OTHER, "disabledPlans": []}],
}


def test_the_hash_of_a_user_is_pinned() -> None:
    """Another recipe needs another HASH_VERSION, else every row in every mirror would change."""
    assert hash_of("users", **ADA).hex() == "036a5fff088697a3c3b4286fa95ef54f"


def test_a_hash_begins_with_its_version() -> None:
    assert HASH_VERSION == b"\x03"
    assert hash_of("users", **ADA).startswith(HASH_VERSION)
    assert len(hash_of("users", **ADA)) == 16


@pytest.mark.parametrize(
    ("resource", "name", "sent"),
    [
        ("users", "proxyAddresses", ["b", "a", "c"]),
        ("users", "assignedLicenses", [{"skuId": "b"}, {"skuId": "a", "disabledPlans": ["x"]}]),
        ("groups", "groupTypes", ["Unified", "DynamicMembership"]),
        ("role_definitions", "resourceScopes", ["/b", "/a"]),
        ("role_definitions", "rolePermissions", [{"b": 1}, {"a": [1, 2]}]),
    ],
)
def test_the_order_of_a_list_does_not_count(resource: str, name: str, sent: list[Any]) -> None:
    there = hash_of(resource, id=GUID, **{name: sent})
    assert hash_of(resource, id=GUID, **{name: sent[::-1]}) == there
    assert hash_of(resource, id=GUID, **{name: sent[:-1]}) != there
    assert hash_of(resource, id=GUID, **{name: [*sent, sent[0]]}) != there


def test_the_order_of_keys_inside_a_nested_object_does_not_count() -> None:
    one = hash_of("users", id=GUID, assignedLicenses=[{"skuId": "a", "disabledPlans": []}])
    two = hash_of("users", id=GUID, assignedLicenses=[{"disabledPlans": [], "skuId": "a"}])
    assert one == two


def test_null_and_an_empty_list_are_not_the_same() -> None:
    assert hash_of("users", id=GUID, otherMails=[]) != hash_of("users", id=GUID, otherMails=None)


def test_absent_and_null_hash_alike_in_a_new_row() -> None:
    assert hash_of("users", id=GUID, mail=None) == hash_of("users", id=GUID)


def test_a_value_that_moves_to_another_column_changes_the_hash() -> None:
    assert hash_of("users", id=GUID, mail="x") != hash_of("users", id=GUID, jobTitle="x")


@pytest.mark.parametrize("resource", list(RESOURCES))
def test_the_keys_of_the_json_are_the_columns_in_the_order_of_jsonb(resource: str) -> None:
    declared = RESOURCES[resource]
    row = (GUID, *([None] * (len(declared.columns) - 1)))
    told = msgspec.json.decode(get_shape(declared).encode_json(row))
    names = [column.name for column in declared.told_columns]
    assert list(told) == sorted(names, key=lambda name: (len(name), name))


def test_the_json_of_a_row_keeps_the_order_of_its_lists() -> None:
    shape = get_shape(RESOURCES["users"])
    row, _ = shape.row_from_record(record("users", **ADA))
    told = msgspec.json.decode(shape.encode_json(row))
    assert told["proxy_addresses"] == ADA["proxyAddresses"]
    assert told["created_date_time"] == "2024-02-29T12:30:45.123456Z"


def test_some_columns_as_json_are_those_columns() -> None:
    shape = get_shape(RESOURCES["users"])
    row, _ = shape.row_from_record(record("users", **ADA))
    told = msgspec.json.decode(shape.encode_columns(row, ["mail", "surname"]))
    assert told == {"mail": None, "surname": "Quill"}


# ---- sites


def test_the_columns_of_a_site_are_read_out_of_its_composite_id() -> None:
    composite = f"contoso.sharepoint.example,{OTHER.upper()},{GUID.upper()}"
    row = row_of("sites", id=composite, webUrl="https://contoso.sharepoint.example/sites/a")
    assert row["id"] == GUID
    assert row["composite_id"] == composite
    assert row["site_collection_id"] == OTHER
    assert row["hostname"] == "contoso.sharepoint.example"


def test_a_site_with_a_bare_guid_has_no_composite_id() -> None:
    row = row_of("sites", id=GUID.upper())
    assert row["id"] == GUID
    assert (row["composite_id"], row["site_collection_id"], row["hostname"]) == (None, None, None)


@pytest.mark.parametrize("spelling", ["hostname", "hostName"])
def test_both_spellings_of_a_host_name_are_understood(spelling: str) -> None:
    row = row_of("sites", id=GUID, siteCollection={spelling: "a.example", "dataLocationCode": "EU"})
    assert (row["hostname"], row["data_location_code"]) == ("a.example", "EU")


def test_the_host_that_graph_names_wins_over_the_one_in_the_id() -> None:
    sent = {"id": f"old.example,{OTHER},{GUID}", "siteCollection": {"hostname": "new.example"}}
    assert row_of("sites", **sent)["hostname"] == "new.example"


@pytest.mark.parametrize(
    ("sent", "is_root"), [({"root": {}}, True), ({"root": None}, False), ({}, False)]
)
def test_an_empty_root_facet_marks_a_root_site(sent: dict[str, Any], *, is_root: bool) -> None:
    assert row_of("sites", id=GUID, **sent)["is_root"] is is_root


@pytest.mark.parametrize("collection", [{}, {"siteCollection": None}, {"siteCollection": {}}])
def test_a_site_without_a_collection_is_a_site(collection: dict[str, Any]) -> None:
    row = row_of("sites", id=f"a.example,{OTHER},{GUID}", **collection)
    assert (row["hostname"], row["data_location_code"]) == ("a.example", None)
