"""Plans that hang on a query and its indexes, not on what ANALYZE last saw of a test's rows.

A table of a test is so small that Postgres, once it knows that, reads all of it. Autovacuum tells
it at any time; and of an ANALYZE that is rolled back, the numbers of rows and pages remain.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import Connection, text

from worker.store.engine import Database

Plan = Mapping[str, Any]
_OWN: Final = "relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
_LEAVE_ALONE: Final = f"""
do $$
declare own regclass;
begin
    for own in select oid from pg_class where relkind = 'r' and {_OWN} loop
        execute format('alter table %s set (autovacuum_enabled = false)', own);
    end loop;
end $$
"""
_FORGET: Final = (
    f"""
    delete from pg_statistic
     where starelid in (select oid from pg_class where {_OWN})
    """,
    f"""
    update pg_class set reltuples = -1, relpages = 0, relallvisible = 0
     where relkind in ('r', 'i') and {_OWN}
    """,
)


def turn_autovacuum_off(database: Database) -> None:
    """Keep autovacuum from the tables that there are, for plans that are alike in every run."""
    with database.open_transaction() as db:
        db.execute(text(_LEAVE_ALONE))


def explain_without_statistics(database: Database, sql: str) -> Plan:
    """Return the plan of a new database that does not know yet how small its tables are.

    What is known of them is back afterwards. Autovacuum must be off.
    """
    with database.open_transaction() as db:
        for statement in _FORGET:
            db.execute(text(statement))
        # Of small tables that were vacuumed, all of an index costs no more than a part of it.
        for one in ("seqscan", "indexonlyscan"):
            db.execute(text(f"set local enable_{one} = off"))
        plan = explain(db, sql)
        db.rollback()
    return plan


def explain(db: Connection, sql: str) -> Plan:
    plan: Plan = db.execute(text(f"explain (format json) {sql}")).scalar_one()[0]["Plan"]
    return plan


def walk(plan: Plan) -> Iterator[Plan]:
    """Yield all nodes of a plan."""
    yield plan
    for one in plan.get("Plans", ()):
        yield from walk(one)
