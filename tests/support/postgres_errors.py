"""Provokes real errors of Postgres and its driver about a row with personal data."""

import threading
from collections.abc import Callable

from sqlalchemy import text

from worker.store.copy import copy_lines
from worker.store.engine import Database

CANARY = "Zaphod-Beeblebrox"
DIGITS = "421337421337421337421337"
"""A number that stands for a person, such as an employee's."""

CREATE_TABLES = """
    create table public.people (
        id int primary key, name text not null unique, short varchar(4), born date, data jsonb,
        key uuid, small smallint, place int references public.people, share numeric(3, 2),
        constraint people_are_named check (name <> '' and name not like 'Nobody%'));
    create table public.lines (id int, name text not null, key uuid, note text);
    insert into public.people (id, name) values (1, 'Zaphod-Beeblebrox'), (2, 'b');
    create function public.refuse() returns trigger language plpgsql as $$
    begin raise exception 'row: %', new using errcode = new.short, detail = new.name; end $$;
    create table public.raising (id int, name text, short text);
    create trigger refuse before insert on public.raising
        for each row execute function public.refuse()
"""

Provoke = Callable[[Database], None]
PROVOCATIONS: dict[str, Provoke] = {}
"""By SQL state, or by a name where the driver refuses; each raises."""


def _add_statement(title: str, sql: str, **values: object) -> None:
    def provoke(database: Database) -> None:
        with database.open_transaction() as db:
            db.execute(text(sql), {"name": CANARY, **values})

    PROVOCATIONS[title] = provoke


def _add_copy(state: str, line: str, table: str = "lines") -> None:
    def provoke(database: Database) -> None:
        names = ("id", "name", "key", "note") if table == "lines" else ("id", "name")
        good = "\t".join(["7", CANARY, "\\N", "\\N"][: len(names)])
        lines = [one.encode() + b"\n" for one in (good, line)]
        with database.open_transaction() as db:
            copy_lines(db, "public", table, names, lines)

    PROVOCATIONS[state] = provoke


_INSERT = "insert into public.people (id, name, {}) values (9, 'x' || :name, {})"
_add_statement("23505", "insert into public.people (id, name) values (3, :name)")
_add_statement("23502", "insert into public.people (name) values ('x' || :name)")
_add_statement("23514", "insert into public.people (id, name) values (3, 'Nobody' || :name)")
_add_statement("23503", _INSERT.format("place", "77"))
_add_statement("22001", _INSERT.format("short", ":name"))
_add_statement("22007", _INSERT.format("born", "cast(:name as date)"))
_add_statement("22P02", _INSERT.format("key", "cast(:name as uuid)"))
_add_statement("22P02 jsonb", _INSERT.format("data", "cast('{\"a\": ' || :name as jsonb)"))
_add_statement("22003", _INSERT.format("small", f"cast('{DIGITS}' as int)"))
_add_statement(
    "22003 parameter", _INSERT.format("small", "cast(:digits as int)"), digits=int(DIGITS)
)
_add_statement("22003 numeric", _INSERT.format("share", "99999"))
_add_statement("22012", "select 1 / (id - 1), name from public.people where name = :name")
_add_statement("22021", "select convert_from(convert_to(:name, 'UTF8') || '\\xff'::bytea, 'UTF8')")
_add_statement("2201B", "select name ~ ('(' || :name) from public.people")
_add_statement("42601", f"select {CANARY} {CANARY}")
_add_statement("42703", "select zaphod from public.people where name = :name")
_add_statement("42883", "select public.nothing(cast(:name as text))")
_add_statement("57014", f"set local statement_timeout = 40; select pg_sleep(9), '{CANARY}'")
_add_statement("21000", "select (select name from public.people), cast(:name as text)")
_add_statement("no SQL state: NUL", "select cast(:nul as text)", nul=CANARY + "\0")
_add_statement("encoding", "select cast(:odd as text)", odd=CANARY + "\ud800")
for _state in ("P0001", "40001", "40P01", "42501", "53100", "57P01", "28000", "XX000", "ZZ123"):
    _add_statement(
        f"{_state} raised",
        "insert into public.raising (name, short) values (:name, :state)",
        state=_state,
    )
_add_copy("23502 copy", f"8\t\\N\t\\N\t{CANARY}")
_add_copy("22P02 copy", f"8\t{CANARY}\t{CANARY}\t\\N")
_add_copy("22P04 copy", f"8\t{CANARY}")
_add_copy("23505 copy", f"8\t{CANARY}", "people")


def _provoke_deadlock(database: Database) -> None:
    """Two transactions that each want the row of the other."""
    both = threading.Barrier(2, timeout=20)
    errors: list[Exception] = []

    def lock(first: int, second: int) -> None:
        change = text("update public.people set data = to_jsonb(cast(:name as text)) where id = :i")
        try:
            with database.open_transaction() as db:
                db.execute(change, {"name": CANARY, "i": first})
                both.wait()
                db.execute(change, {"name": CANARY, "i": second})
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=lock, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raise errors[0]


def _provoke_serialization_failure(database: Database) -> None:
    """A row that another transaction changed since this one began."""
    change = text("update public.people set data = to_jsonb(cast(:name as text)) where id = 2")
    with database.open_transaction() as db:
        db.execute(text("set transaction isolation level repeatable read"))
        db.execute(text("select name from public.people"))
        with database.open_transaction() as other:
            other.execute(change, {"name": CANARY})
        db.execute(change, {"name": CANARY})


PROVOCATIONS["40P01"] = _provoke_deadlock
PROVOCATIONS["40001"] = _provoke_serialization_failure


def parse_sql_state(name: str) -> str:
    """What a log must say of it."""
    return name.partition(" ")[0] if name[:1].isdigit() or name.endswith("raised") else ""
