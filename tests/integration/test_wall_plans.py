"""Plans of walled readers: no row of another customer is read, whichever view is asked for what.

The plan of each view for each of its columns is read, on the oldest and the newest Postgres: every
scan of a table with rows of customers goes through an index, by the connection.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from migrations.walls.roles import WALLED as WALLED_KINDS
from migrations.walls.roles import ReaderKind
from tests.support.walled import Session, Walled

COLUMNS = """
    select c.relname, a.attname, format_type(a.atttypid, null)
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
     where c.relnamespace = %s::regnamespace and c.relkind = 'v' order by 1, 2
"""
WALLED = """
    select c.relname from pg_class c left join pg_inherits i on i.inhrelid = c.oid
      left join pg_class p on p.oid = i.inhparent
     where c.relkind in ('r', 'p') and (c.relrowsecurity or p.relrowsecurity)
"""
CONDITIONS: Mapping[str, Sequence[str]] = {
    "text": ("{} = 'a'", "starts_with({}, 'a')"),
    "uuid": ("{} = '00000000-0000-4000-8000-000000000001'",),
    "timestamp with time zone": ("{0} > now() - interval '1 day' and {0} < now()",),
}
"""The operators that may reach an index below a wall, as they are leakproof; and ranges of time."""


def list_questions(walled: Walled, reader: ReaderKind) -> Iterator[str]:
    """Questions about each view and column; one for a column where no index has its values."""
    schema, most = reader.schema, None if reader.sees_names else 1
    columns = walled.execute(COLUMNS, [schema])
    yield from (f"{schema}.{view}" for view in sorted({view for view, _, _ in columns}))
    for view, column, kind in columns:
        for condition in CONDITIONS.get(kind, ())[:most]:
            yield f"{schema}.{view} where {condition.format(column)}"


def explain(session: Session, question: str) -> dict[str, Any]:
    ((found,),) = session.run(f"explain (format json) select * from {question}")
    plan: dict[str, Any] = found[0]["Plan"]
    return plan


def iterate_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from iterate_nodes(part)


def read_index_conditions(scan: dict[str, Any]) -> str:
    """What a scan looks up in its index or, of a bitmap, in its indexes."""
    nodes = (scan, *(one for one in iterate_nodes(scan) if one["Node Type"] == "Bitmap Index Scan"))
    return " ".join(one.get("Index Cond", "") for one in nodes)


def list_wide_scans(plan: dict[str, Any], tables: set[str]) -> list[str]:
    """The scans that read rows of more than one customer."""
    found = []
    for one in iterate_nodes(plan):
        table = one.get("Relation Name")
        if table in tables:
            column = "id" if table == "connections" else "connection_id"
            if not re.search(rf"\b{column} = ", read_index_conditions(one)):
                found.append(f"{one['Node Type']} of {table}")
    return found


@pytest.mark.parametrize("kind", WALLED_KINDS)
def test_no_plan_of_any_view_reads_rows_of_another_customer(
    walled: Walled, kind: ReaderKind
) -> None:
    tables = {table for (table,) in walled.execute(WALLED)} - {"reader_connections"}
    assert len(tables) > 15
    questions = list(list_questions(walled, kind))
    assert len(questions) > 100
    with walled.open(kind) as session:
        session.run("set tenant_mirror.connection_id = '1'")
        wide = {one: list_wide_scans(explain(session, one), tables) for one in questions}
    assert {one: scans for one, scans in wide.items() if scans} == {}


@pytest.mark.parametrize("kind", [ReaderKind.APPLICATION, ReaderKind.CUSTOMER])
def test_a_whole_table_of_one_customer_is_counted_without_the_others(
    walled: Walled, kind: ReaderKind
) -> None:
    """What was read and left out, by a plan that was run, is none of the other customer's rows."""
    with walled.open(kind) as session:
        session.run("set tenant_mirror.connection_id = '1'")
        for question in ("users", "users where created_date_time > now()", "group_members"):
            ((found,),) = session.run(
                f"explain (analyze, timing off, format json) select * from analytics.{question}"
            )
            scans = [
                one
                for one in iterate_nodes(found[0]["Plan"])
                if one.get("Relation Name") in ("users", "group_members") and one["Actual Loops"]
            ]
            assert scans, question
            for one in scans:
                read = one["Actual Rows"] + one.get("Rows Removed by Filter", 0)
                own = f"select count(*) from directory.{one['Relation Name']}"
                ((most,),) = walled.execute(f"{own} where connection_id = 1")
                assert read <= most, (question, one)


def test_an_id_is_looked_up_by_connection_and_id_at_once(walled: Walled) -> None:
    for kind in (ReaderKind.APPLICATION, ReaderKind.CUSTOMER):
        with walled.open(kind) as session:
            session.run("set tenant_mirror.connection_id = '1'")
            session.run("prepare one as select * from analytics.users where id = $1")
            for _ in range(7):
                ((found,),) = session.run(
                    "explain (format json) execute one ('00000000-0000-4000-8000-000000000001')"
                )
            (scan,) = [
                one
                for one in iterate_nodes(found[0]["Plan"])
                if one.get("Relation Name") == "users"
            ]
            condition = read_index_conditions(scan)
            assert re.search(r"\bconnection_id = .* AND \(id = ", condition), condition
