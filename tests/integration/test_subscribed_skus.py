"""Subscribed products: units in use are sampled daily and told by no event; products have names."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from models.product_names import AS_OF, PRODUCT_NAMES
from models.run import RunState, RunTrigger
from sandbox.tenant import KindCounts
from sandbox.tenant.directory.templates.licences import SKU_IDS
from sandbox.tenant.story import Story
from tests.support.mirror import (
    MakeMirror,
    MakeSynced,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    verify_connection,
)
from worker.ops.schema.migrate import migrate
from worker.store.mirror.samples import purge_samples
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice

NAME = "subscribed_skus"
SAMPLES = (
    "select coalesce(jsonb_object_agg(id, consumed_units), '{}')"
    " from history.subscribed_skus_samples where sampled_on = :day and connection_id = 1"
)


@pytest.fixture
def mirror(make_synced: MakeSynced) -> Mirror:
    """A small tenant with eight products, mirrored."""
    return make_synced(seed=3, users=60, groups=8, sites=6, kinds=KindCounts(skus=8))


def execute(mirror: Mirror, statement: str, **values: Any) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(text(statement), values)


def list_consumed(mirror: Mirror) -> dict[str, int]:
    """Units in use as the tenant has them."""
    return {one["id"]: one["consumedUnits"] for one in mirror.tenant.iterate_live(NAME)}


def read_samples(mirror: Mirror, days_ago: int = 0) -> dict[str, int]:
    day = datetime.now(UTC).date() - timedelta(days=days_ago)
    found: dict[str, int] = fetch_scalar(mirror.database, SAMPLES, day=day)
    return found


def let_days_pass(mirror: Mirror, days: int) -> None:
    """Let what was sampled be so much older."""
    execute(
        mirror,
        "update history.subscribed_skus_samples set sampled_on = sampled_on - :days",
        days=days,
    )


def change_units(mirror: Mirror, by: int = 1) -> str:
    """Let somebody get a licence; return the product's id."""
    sku, units = next(iter(list_consumed(mirror).items()))
    mirror.tenant.update_object(NAME, sku, consumedUnits=units + by)
    return sku


def test_a_first_load_brings_all_products_and_the_first_sample(mirror: Mirror) -> None:
    assert_exact(mirror.database, mirror.tenant)
    assert len(list_consumed(mirror)) == 8
    assert read_samples(mirror) == list_consumed(mirror)


def test_units_in_use_change_without_an_event(mirror: Mirror) -> None:
    changed_at = "select max(changed_at) from directory.subscribed_skus"
    before, mark = fetch_scalar(mirror.database, changed_at), read_last_seq(mirror.database)
    change_units(mirror)
    assert mirror.sync(NAME).state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
    assert read_events(mirror.database, after=mark) == []
    assert fetch_scalar(mirror.database, changed_at) == before
    assert read_samples(mirror) == list_consumed(mirror), "in place of the one before"


def test_each_day_keeps_its_last_values_whether_they_changed_or_not(mirror: Mirror) -> None:
    first = list_consumed(mirror)
    let_days_pass(mirror, 2)
    change_units(mirror)
    mirror.sync(NAME)
    second = list_consumed(mirror)
    let_days_pass(mirror, 1)
    mirror.sync(NAME)
    samples = [read_samples(mirror, days_ago) for days_ago in range(4)]
    assert samples == [second, second, {}, first], "and none of a day without a read"


def test_a_walk_that_is_cut_short_takes_no_sample(mirror: Mirror) -> None:
    let_days_pass(mirror, 1)
    mirror.tenant.options.refused_resources.add(NAME)
    assert mirror.sync(NAME).state is RunState.PARTIAL
    assert read_samples(mirror) == {}


def test_events_tell_all_but_the_units_in_use(mirror: Mirror) -> None:
    created = [one for one in read_events(mirror.database) if one["resource"] == NAME]
    assert len(created) == 8
    assert not any("consumed_units" in one["after"] for one in created)
    assert all("prepaid_enabled" in one["after"] for one in created)
    mark, sku = read_last_seq(mirror.database), change_units(mirror)
    units = {"enabled": 700, "suspended": 1, "warning": 2, "lockedOut": 3}
    mirror.tenant.update_object(NAME, sku, prepaidUnits=units, capabilityStatus="Suspended")
    mirror.sync(NAME)
    assert_exact(mirror.database, mirror.tenant)
    (updated,) = read_events(mirror.database, after=mark)
    assert updated["after"] == {
        "capability_status": "Suspended",
        "prepaid_enabled": 700,
        "prepaid_suspended": 1,
        "prepaid_warning": 2,
        "prepaid_locked_out": 3,
    }
    assert sorted(updated["changed"]) == sorted(updated["after"]) == sorted(updated["before"])
    mark = read_last_seq(mirror.database)
    mirror.tenant.delete_object(NAME, sku)
    mirror.sync(NAME)
    (deleted,) = read_events(mirror.database, after=mark)
    assert deleted["change"] == "deleted"
    assert "consumed_units" not in deleted["before"]
    assert verify_connection(mirror.database).problems == []


def test_a_product_that_ends_keeps_its_samples_and_gets_no_more(mirror: Mirror) -> None:
    sku = change_units(mirror, by=0)
    mirror.tenant.delete_object(NAME, sku)
    let_days_pass(mirror, 1)
    mirror.sync(NAME)
    assert sku in read_samples(mirror, days_ago=1)
    assert read_samples(mirror) == list_consumed(mirror)


def test_samples_are_kept_as_long_as_events(mirror: Mirror) -> None:
    days = mirror.runtime.settings.events_days
    let_days_pass(mirror, days)
    assert purge_samples(mirror.database, days) == 0
    mirror.sync(NAME)
    let_days_pass(mirror, 1)
    assert purge_samples(mirror.database, days) == 8
    assert read_samples(mirror, days_ago=1) == list_consumed(mirror)


def test_who_connects_anew_goes_on_with_the_samples(mirror: Mirror) -> None:
    let_days_pass(mirror, 1)
    mirror.nango.remove_connection("contoso")
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)
    mirror.nango.add_connection("again", mirror.tenant)
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)
    run_slice(mirror.runtime, 2, trigger=RunTrigger.BACKFILL)
    change_units(mirror)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
    assert len(read_samples(mirror, days_ago=1)) == 8
    assert read_samples(mirror) == list_consumed(mirror)
    others = "select count(*) from history.subscribed_skus_samples where connection_id <> 1"
    assert fetch_scalar(mirror.database, others) == 0


# ---- names and assignments


def test_a_view_says_what_is_bought_used_and_assigned_by_name(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Story())
    assert mirror.sync().state is RunState.SUCCEEDED
    statement = (
        "select sku_part_number, product_name, prepaid_enabled, consumed_units, assigned_users,"
        " assigned_disabled_users from analytics.licenses where connection_id = 1"
    )
    with mirror.database.open_transaction() as db:
        found = {row[0]: tuple(row[1:]) for row in db.execute(text(statement))}
    users, expected = list(mirror.tenant.iterate_live("users")), {}
    for sku in mirror.tenant.iterate_live(NAME):
        holders = [
            user
            for user in users
            if sku["skuId"] in {one["skuId"] for one in user["assignedLicenses"]}
        ]
        disabled = [user for user in holders if not user["accountEnabled"]]
        part_number = sku["skuPartNumber"]
        expected[part_number] = (
            PRODUCT_NAMES[SKU_IDS[part_number]],
            *(sku["prepaidUnits"]["enabled"], sku["consumedUnits"]),
            *(len(holders), len(disabled)),
        )
    assert found == expected
    assert any(one[-1] for one in found.values()), "somebody disabled holds a licence"


def test_a_product_without_a_name_is_shown_by_its_part_number(mirror: Mirror) -> None:
    named = "select jsonb_object_agg(sku_part_number, product_name) from analytics.licenses"
    found = fetch_scalar(mirror.database, named)
    unknown = {
        one["skuPartNumber"]
        for one in mirror.tenant.iterate_live(NAME)
        if one["skuId"] not in PRODUCT_NAMES
    }
    assert unknown
    assert {one: found[one] for one in unknown} == {one: one for one in unknown}
    assert all(found[one] != one for one in found.keys() - unknown)


def test_licences_of_a_hostile_shape_spoil_no_other_line(mirror: Mirror) -> None:
    odd = """'[{"skuId": "none"}, {"skuId": 7}, {"skuId": null}, {}]'::jsonb"""
    execute(mirror, f"update directory.users set assigned_licenses = {odd}")
    assert fetch_scalar(mirror.database, "select sum(assigned_users) from analytics.licenses") == 0
    assert fetch_scalar(mirror.database, "select count(*) from analytics.licenses") == 8


def test_each_migration_stores_the_names_that_the_release_ships(mirror: Mirror) -> None:
    names = "select jsonb_object_agg(sku_id, name) from analytics.product_names"
    assert fetch_scalar(mirror.database, names) == PRODUCT_NAMES
    dated = "select array_agg(distinct as_of) from analytics.product_names"
    assert fetch_scalar(mirror.database, dated) == [AS_OF]
    one = next(iter(PRODUCT_NAMES))
    execute(mirror, "update analytics.product_names set name = 'old' where sku_id = :id", id=one)
    execute(
        mirror,
        "insert into analytics.product_names values (gen_random_uuid(), 'gone', current_date)",
    )
    versions = "select array_agg(xmin::text order by sku_id) from analytics.product_names"
    migrate(mirror.database)
    assert fetch_scalar(mirror.database, names) == PRODUCT_NAMES
    before = fetch_scalar(mirror.database, versions)
    migrate(mirror.database)
    assert fetch_scalar(mirror.database, versions) == before
