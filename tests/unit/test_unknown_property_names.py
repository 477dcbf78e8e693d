"""Which properties a refusal names, and rows that say nothing about them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.resources import RESOURCES
from worker.core.errors import ResourceRefused
from worker.graph.decode import decode_page
from worker.graph.unknown_properties import (
    can_be_about_property,
    find_named_properties,
)
from worker.graph.urls import build_delta_url, build_listing_url, build_object_path, build_token_url
from worker.rows.incoming import clear_columns
from worker.rows.shape import get_shape
from worker.sync.plan import compute_select_hash

USERS, GROUPS, SITES = RESOURCES["users"], RESOURCES["groups"], RESOURCES["sites"]
MISSING = "Could not find a property named '{}' on type 'microsoft.graph.user'."


def refusal(said: str, status: int = 400) -> ResourceRefused:
    error = ResourceRefused("Graph answers 400 BadRequest; the tenant does not offer this")
    error.status, error.graph_message = status, said
    return error


@given(st.sampled_from(USERS.optional))
def test_a_refusal_in_graphs_words_names_the_property(name: str) -> None:
    assert find_named_properties(USERS, refusal(MISSING.format(name)), ()) == [name]
    assert find_named_properties(USERS, refusal(MISSING.format(name)), (name,)) == []


@pytest.mark.parametrize(
    "said",
    [
        "Parsing OData Select and Expand failed: " + MISSING.format("jobTitle"),
        'Could not find a property named "jobTitle" on type "microsoft.graph.user".',
        "$select is not supported for these properties: jobTitle",
        "The property `jobTitle` is not available in this cloud.",
        "Property jobTitle does not exist.",
    ],
)
def test_other_words_do_as_well(said: str) -> None:
    assert find_named_properties(USERS, refusal(said), ()) == ["jobTitle"]


@pytest.mark.parametrize("name", ["id", "members", "unheardOf"])
def test_what_the_mirror_cannot_do_without_is_never_left_out(name: str) -> None:
    assert find_named_properties(GROUPS, refusal(MISSING.format(name)), ()) == []


def test_an_english_word_names_no_property() -> None:
    said = "The city, state and country of the mail could not be selected"
    assert find_named_properties(USERS, refusal(said), ()) == []


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_other_statuses_are_about_something_else(status: int) -> None:
    assert find_named_properties(USERS, refusal(MISSING.format("jobTitle"), status), ()) == []
    assert not can_be_about_property(USERS, refusal("", status))


@pytest.mark.parametrize(
    ("name", "said", "maybe"),
    [
        ("users", "", True),
        ("users", "Parsing OData Select and Expand failed.", True),
        ("users", "Differential query is not supported in this type of tenant.", False),
        ("role_assignments", "", False),
    ],
)
def test_a_refusal_without_a_name_may_be_about_a_property(
    name: str, said: str, *, maybe: bool
) -> None:
    assert can_be_about_property(RESOURCES[name], refusal(said)) is maybe


def test_requests_do_without_what_is_left_out_and_nothing_else() -> None:
    for link in (
        build_listing_url(USERS, ["jobTitle"]),
        build_delta_url(USERS, ["jobTitle"]),
        build_token_url(USERS, ["jobTitle"]),
        build_object_path(USERS, "x", full=True, without=["jobTitle"]),
    ):
        asked = link.partition("$select=")[2].partition("&")[0].split(",")
        assert set(USERS.selected) - set(asked) == {"jobTitle"}
    assert build_delta_url(GROUPS, GROUPS.optional).endswith("?$select=id,members")


def test_a_cursor_without_a_property_is_another_one() -> None:
    assert compute_select_hash(USERS, ["jobTitle"]) != compute_select_hash(USERS)
    assert compute_select_hash(USERS, []) == compute_select_hash(USERS)


def test_a_column_that_is_made_of_a_property_is_left_out_with_it() -> None:
    site = (
        b'{"id":"contoso.sharepoint.com,11111111-2222-3333-4444-555555555555,'
        b'21111111-2222-3333-4444-555555555555","displayName":"Home"}'
    )
    page = decode_page(SITES, b'{"value":[%b]}' % site)
    clear_columns(page.rows, SITES, SITES.columns_of(["root", "siteCollection"]))
    (item,) = page.rows.values()
    row = dict(zip(SITES.column_names, item.row, strict=True))
    assert (row["is_root"], row["data_location_code"]) == (None, None)
    assert row["hostname"] == "contoso.sharepoint.com", "it is in the id as well"
    told = {name for i, name in enumerate(SITES.column_names) if item.present >> i & 1}
    assert not told & {"is_root", "data_location_code"}
    assert item.hash == get_shape(SITES).hash_row(item.row)
