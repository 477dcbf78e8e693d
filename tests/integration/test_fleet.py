"""The fleet is loaded by few statements, judged, and listed in pages that lose nothing."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, text

from tests.support.databases import DatabaseFactory
from tests.support.fleet import fill_fleet, revive_service
from worker.conditions.condition import Code
from worker.core.errors import InvalidInput
from worker.core.settings import Settings, load_settings
from worker.overview.fleet import Fleet, judge, load_fleet
from worker.overview.listing import ConnectionFilter, Sort, list_connections, match_ids
from worker.store.engine import Database
from worker.store.state import condition_facts

NUMBER = 2000
STATEMENTS = 4
"""Most statements that a look at the whole fleet takes."""


@pytest.fixture(scope="module")
def crowd(cluster: DatabaseFactory) -> Iterator[Database]:
    """A database with thousands of connections, for all tests of this file."""
    url = cluster.create_migrated()
    database = Database(url)
    fill_fleet(database, NUMBER)
    yield database
    database.close()
    cluster.drop(url)


@pytest.fixture(scope="module")
def plain_settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="module")
def fleet(crowd: Database, plain_settings: Settings) -> Fleet:
    """The healthy fleet, but for three connections."""
    revive_service(crowd)
    with crowd.open_transaction() as db:
        db.execute(
            text("update sync.connections set settings_problem = 'x must be a number' where id = 7")
        )
        db.execute(
            text(
                "update sync.connections set operator_paused_at = now(), operator_paused_by = 'ana'"
                " where id = 8"
            )
        )
        db.execute(text("update sync.connections set display_name = 'Fabrikam' where id in (9, 5)"))
    return load_fleet(crowd, plain_settings)


def count_statements(database: Database, settings: Settings) -> list[str]:
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    event.listen(database._engine, "before_cursor_execute", note)
    try:
        load_fleet(database, settings)
    finally:
        event.remove(database._engine, "before_cursor_execute", note)
    return seen


def test_a_look_at_the_whole_fleet_takes_few_statements(
    crowd: Database, plain_settings: Settings
) -> None:
    assert len(count_statements(crowd, plain_settings)) <= STATEMENTS


def explain(database: Database, statement: Any, **values: Any) -> str:
    with database.open_transaction() as db:
        return "\n".join(db.execute(text(f"explain {statement.text}"), values).scalars())


def test_the_last_runs_are_found_by_an_index_however_long_the_history_is(crowd: Database) -> None:
    plan = explain(
        crowd,
        condition_facts._CONNECTIONS,
        ids=None,
        streamed=list(condition_facts._NAMES),
    )
    assert "ix_runs_connection_id_id" in plan
    assert "Seq Scan on runs" not in plan


def test_one_connection_is_loaded_without_reading_the_others(crowd: Database) -> None:
    plan = explain(
        crowd,
        condition_facts._CONNECTIONS,
        ids=[3],
        streamed=list(condition_facts._NAMES),
    )
    assert "Seq Scan on streams" not in plan
    assert "Seq Scan on runs" not in plan


def test_a_healthy_fleet_is_fine(fleet: Fleet) -> None:
    assert fleet.conditions == ()
    assert not any(one.facts.streams for one in fleet.connections), "loaded, though at rest"
    assert (len(fleet.in_use), fleet.attention_count) == (NUMBER, 1)
    assert (fleet.paused_count, fleet.fine_count) == (1, NUMBER - 2)
    assert {one.id for one in fleet.connections if one.conditions} == {7, 8}


def test_a_list_follows_its_filter_and_so_do_the_counts(fleet: Fleet) -> None:
    page = list_connections(fleet, ConnectionFilter(attention=True))
    assert [one.id for one in page.rows] == [7]
    assert (page.total, page.attention) == (1, 1)
    assert page.conditions == {Code.SETTINGS_WRONG: 1}
    paused = ConnectionFilter(conditions=frozenset({Code.PAUSED_BY_OPERATOR}))
    assert match_ids(fleet, paused) == [8]
    assert match_ids(fleet, ConnectionFilter(statuses=frozenset({"broken"}))) == []
    assert match_ids(fleet, ConnectionFilter(ids=frozenset({4, 9999}))) == [4]


def test_text_finds_a_connection_by_whatever_people_call_it(fleet: Fleet) -> None:
    facts = fleet.by_id[9].facts
    assert match_ids(fleet, ConnectionFilter(text="FABRI")) == [5, 9]
    for name in (facts.label, facts.nango_id[:12], facts.tenant_id or ""):
        assert match_ids(fleet, ConnectionFilter(text=name)) == [9], name


@pytest.mark.parametrize("sort", Sort)
def test_pages_of_equal_keys_lose_and_double_nothing(fleet: Fleet, sort: Sort) -> None:
    seen: list[int] = []
    after = None
    while True:
        page = list_connections(fleet, ConnectionFilter(), sort=sort, after=after, limit=333)
        assert page.total == NUMBER
        seen += [one.id for one in page.rows]
        after = page.next_key
        if after is None:
            break
    assert len(seen) == NUMBER
    assert set(seen) == {one.id for one in fleet.connections}


def test_the_most_severe_come_first(fleet: Fleet) -> None:
    page = list_connections(fleet, ConnectionFilter(), sort=Sort.SEVERITY, limit=3)
    assert [one.id for one in page.rows] == [7, 8, 1]


@pytest.mark.parametrize("key", ["", "x", "WyJuYW1lIiwxLDJd", "////", "bm90IGpzb24"])
def test_a_key_that_cannot_be_read_is_refused(fleet: Fleet, key: str) -> None:
    with pytest.raises(InvalidInput):
        list_connections(fleet, ConnectionFilter(), sort=Sort.AGE, after=key)


def test_a_filtered_list_costs_little(fleet: Fleet) -> None:
    began = time.process_time()
    list_connections(fleet, ConnectionFilter(text="customer 19"), sort=Sort.NAME)
    assert time.process_time() - began < 0.1


def test_lateness_is_judged_as_the_view_judges_it(
    crowd: Database, fleet: Fleet, plain_settings: Settings
) -> None:
    ages = "(n % 10) * interval '5 minutes'"
    statement = text(
        "update sync.streams s set fresh_at = case when n % 7 > 0 then clock_timestamp() - "
        f"{ages} end, interval_seconds = 60 * (1 + n % 11) from (select connection_id as c,"
        " resource as r, row_number() over () as n from sync.streams where connection_id < 200) t"
        " where s.connection_id = t.c and s.resource = t.r"
    )
    with crowd.open_transaction() as db:
        db.execute(statement)
        late = {
            (row.connection_id, row.resource)
            for row in db.execute(
                text(
                    "select connection_id, resource from analytics.freshness where is_late"
                    " and resource in (select resource from sync.streams)"
                )
            )
        }
        facts = condition_facts.load_connection_facts(db)
    now = load_fleet(crowd, plain_settings).now.timestamp()
    judged = {
        (one.id, fresh.resource)
        for one in facts
        for fresh in one.freshness
        if fresh.compute_late_at(one.created_at.timestamp()) < now
    }
    assert judged == late
    assert late


def test_without_postgres_the_fleet_says_so(plain_settings: Settings) -> None:
    database = Database("postgresql://nobody@127.0.0.1:9/nothing")
    found = load_fleet(database, plain_settings)
    database.close()
    assert [one.code for one in found.conditions][:1] == [Code.SERVER_UNUSABLE]
    assert found.conditions[0].subject == "Postgres"
    assert found.connections == []


def test_what_one_look_was_asked_for_is_ready_in_the_next_one_only(fleet: Fleet) -> None:
    derived: list[str] = []

    def note(look: Fleet, word: str) -> int:
        derived.append(word)
        return len(look.connections)

    looks = [judge([one.facts for one in fleet.connections], fleet.service) for _ in range(3)]
    looks[0].derive(note, "asked")
    looks[1].prepare_like(looks[0])
    assert derived == ["asked", "asked"]
    looks[2].prepare_like(looks[1])
    assert derived == ["asked", "asked"], "nobody asked the second look"
    assert looks[1].derive(note, "asked") == len(fleet.connections)
    assert derived == ["asked", "asked"]
