"""Measures the closure of groups in groups: building it, changing it, and questions to it."""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

from sqlalchemy import text

from benchmarks.meter import Meter, read_arguments, read_peak_memory, write_figures
from models.resource import DeletedReason
from models.resources import RESOURCES
from worker.core.settings import load_settings
from worker.store.engine import Database
from worker.store.lease import interrupt_writer
from worker.store.mirror.edges import delete_edges, merge_edges
from worker.store.mirror.nesting import compute_nesting
from worker.wiring import open_database

EDGE: Final = RESOURCES["group_members"]

OURS: Final = {
    "user": "select count(*), sum(depth), sum(ways) from analytics.effective_group_members"
    " where connection_id = 1 and member_id = :user",
    "group": "select count(*), sum(depth), sum(ways) from analytics.effective_group_members"
    " where connection_id = 1 and group_id = :group",
    "is in": "select exists (select from analytics.effective_group_members"
    " where connection_id = 1 and group_id = :group and member_id = :user)",
    "user with paths": "select count(path) from analytics.groups_of(1, :user)",
    "group with paths": "select count(path) from analytics.members_of(1, :group)",
    "tenant": "select count(*), sum(depth), sum(ways), count(through_group_id::text)"
    " from analytics.effective_group_members where connection_id = 1",
}
RECURSIVE: Final = {
    "user": """
        with recursive around (id) as (
            select group_id from directory.group_members
             where connection_id = 1 and member_id = :user and deleted_at is null
            union
            select m.group_id from around a
              join directory.group_members m
                on m.connection_id = 1 and m.member_id = a.id and m.deleted_at is null)
        select count(*) from around
    """,
    "group": """
        with recursive inside (id, kind) as (
            select member_id, member_type from directory.group_members
             where connection_id = 1 and group_id = :group and deleted_at is null
            union
            select m.member_id, m.member_type from inside i
              join directory.group_members m
                on m.connection_id = 1 and m.group_id = i.id and m.deleted_at is null
             where i.kind = 'group')
        select count(*) from inside
    """,
    "tenant": """
        with recursive inside (group_id, inner_id) as (
            select id, id from directory.groups where connection_id = 1 and deleted_at is null
            union
            select i.group_id, m.member_id from inside i
              join directory.group_members m
                on m.connection_id = 1 and m.group_id = i.inner_id and m.member_type = 'group'
               and m.deleted_at is null)
        select count(*) from (
            select distinct i.group_id, m.member_id from inside i
              join directory.group_members m
                on m.connection_id = 1 and m.group_id = i.inner_id and m.deleted_at is null) p
    """,
}


def measure(database: Database, statement: str, cases: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return the median and the most milliseconds of a question, in new transactions."""
    times, answers = [], []
    for case in cases:
        with database.open_transaction() as db:
            db.execute(text("set local statement_timeout = 0"))
            start = time.perf_counter()
            answers.append(tuple(db.execute(text(statement), case).one()))
            times.append((time.perf_counter() - start) * 1000)
    return {"median": median(times), "most": max(times), "answer": list(map(str, answers[0]))}


def measure_changes(
    database: Database, pairs: Sequence[tuple[str, str]], kind: str
) -> dict[str, float]:
    """Return the median and the most milliseconds of ending a membership and adding it again."""
    gone = DeletedReason.PERMANENTLY_DELETED.value
    times = []
    for pair in pairs:
        with Meter() as ended, interrupt_writer(database, 1) as tx:
            delete_edges(tx, EDGE, {pair: gone})
        with Meter() as added, interrupt_writer(database, 1) as tx:
            merge_edges(tx, EDGE, {pair: kind})
        times += [one.figures["seconds"] * 1000 for one in (ended, added)]
    return {"median": median(times), "most": max(times)}


def select(database: Database, statement: str) -> list[tuple[str, ...]]:
    with database.open_transaction() as db:
        return [tuple(map(str, row)) for row in db.execute(text(statement)).all()]


def ask(database: Database, users: Sequence[str]) -> dict[str, Any]:
    """Ask each question, ours and by a plain recursive query, about the groups that contain most.

    As many of them as there are users are asked about, or fewer.
    """
    widest = select(
        database,
        "select group_id from directory.group_closure group by 1"
        f" order by count(*) desc, 1 limit {len(users)}",
    )
    cases = [{"user": user, "group": group} for user, (group,) in zip(users, widest, strict=False)]
    found: dict[str, Any] = {}
    for name, statement in OURS.items():
        some = cases[:1] if name == "tenant" else cases
        found[f"ours, {name}"] = measure(database, statement, some)
    for name, statement in RECURSIVE.items():
        some = cases[:1] if name == "tenant" else cases
        found[f"recursive, {name}"] = measure(database, statement, some)
    return found


def compute(database: Database) -> float:
    """Return the seconds that the whole closure takes at the end of a walk."""
    with Meter() as meter, interrupt_writer(database, 1) as tx:
        compute_nesting(tx, EDGE)
    return float(meter.figures["seconds"])


def main() -> None:
    """Build the closure of connection 1, change memberships, and ask."""
    asked = read_arguments()
    database = open_database(load_settings())
    figures: dict[str, Any] = {"build": compute(database), "again": compute(database)}
    sizes = (
        "select count(*), pg_total_relation_size('directory.group_closure'), max(depth)"
        " from directory.group_closure"
    )
    ((pairs, size, depth),) = select(database, sizes)
    figures |= {"pairs": int(pairs), "bytes": int(size), "depth": int(depth)}
    for kind in ("group", "user"):
        one = select(
            database,
            "select group_id, member_id from directory.group_members"
            f" where member_type = '{kind}' order by md5(group_id::text || member_id::text)"
            " limit 20",
        )
        figures[f"change of a {kind}"] = measure_changes(database, [(p, m) for p, m in one], kind)
    with database.open_transaction() as db:
        db.exec_driver_sql("analyze directory.group_closure, directory.group_members")
    figures |= ask(database, asked["users"])
    database.close()
    write_figures({**figures, "peak_mb": read_peak_memory()})


if __name__ == "__main__":
    main()
