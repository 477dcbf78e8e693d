"""Exports: the views of one customer, as of one moment, in files that other tools read."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from migrations.views import VIEWS
from tests.support.databases import DatabaseFactory
from tests.support.reader import open_reader
from tests.support.story import ALPINE, StoryMirror
from worker.core.errors import InvalidInput, StateConflict, StorageFull
from worker.ops.cli import cli
from worker.ops.export.files import ExportFormat, ExportRequest, write_export
from worker.store.export import begin_snapshot, copy_view, list_exported_views

USERS = "select * from analytics.users order by id"


def ignore_rows(_view: str, _rows: int) -> None:
    """Ignore the progress of an export."""


def write(alpine: StoryMirror, folder: Path, form: ExportFormat, *views: str) -> dict[str, Any]:
    request = ExportRequest(ALPINE, folder, form, views)
    with alpine.database.open_transaction() as db:
        return write_export(db, request, ignore_rows).describe()


def test_csv_has_every_row_and_value_of_the_views(alpine: StoryMirror, tmp_path: Path) -> None:
    manifest = write(alpine, tmp_path / "out", ExportFormat.CSV)
    names = {one.name for one in VIEWS} - {"effective_group_members", "changes"}
    assert {one["view"] for one in manifest["files"]} == names
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest
    for one in manifest["files"]:
        (row,) = alpine.ask(f"select count(*) as n from analytics.{one['view']}")
        assert one["rows"] == row["n"], one["view"]
        with (tmp_path / "out" / one["file"]).open(newline="") as file:
            header, *rows = csv.reader(file)
        assert header == [column["name"] for column in one["columns"]]
        assert len(rows) == one["rows"]
        assert all(column["meaning"] for column in one["columns"])


def test_parquet_has_the_same_values_with_their_types(alpine: StoryMirror, tmp_path: Path) -> None:
    write(alpine, tmp_path / "out", ExportFormat.PARQUET, "users", "findings")
    file = f"'{tmp_path}/out/users.parquet'"
    with duckdb.connect() as db:
        types = dict(
            db.execute(
                f"select name, type from (describe from {file}) d (name, type, a, b, c, d)"
            ).fetchall()
        )
        plain = [name for name, kind in types.items() if not kind.startswith("TIMESTAMP")]
        picked = ", ".join(plain)
        found = db.execute(f"select {picked} from {file} order by id::varchar").fetchall()
        created = db.execute(
            f"select epoch_us(created_date_time) from {file} order by id::varchar"
        ).fetchall()
    assert types["id"] == "UUID"
    assert types["created_date_time"] == "TIMESTAMP WITH TIME ZONE"
    assert types["proxy_addresses"] == "VARCHAR[]"
    assert (types["account_enabled"], types["license_count"]) == ("BOOLEAN", "INTEGER")
    expected = alpine.ask(USERS)
    assert len(types) == len(expected[0])
    rows = [dict(zip(plain, row, strict=True)) for row in found]
    told = [{name: row[name] for name in plain} for row in expected]
    assert [{**row, "id": str(row["id"])} for row in rows] == told
    moments = [row["created_date_time"].timestamp() * 1_000_000 for row in expected]
    assert [one for (one,) in created] == moments


def test_an_empty_text_is_no_null_and_odd_texts_stay(alpine: StoryMirror, tmp_path: Path) -> None:
    odd = ' "quoted", \\ back\nslash\tand ✓ '
    change = text("update directory.users set city = :city, state = '' where id = :id")
    user = alpine.story.ids["max"]
    request = ExportRequest(ALPINE, tmp_path / "out", ExportFormat.PARQUET, ["users"])
    with alpine.database.open_transaction() as db:
        db.execute(change, {"city": odd, "id": user})
    try:
        with alpine.database.open_transaction() as db:
            write_export(db, request, ignore_rows)
    finally:
        with alpine.database.open_transaction() as db:
            db.execute(text("update directory.users set city = null, state = null"))
    of = f"select city, state, mobile_phone from '{tmp_path}/out/users.parquet' where id = '{user}'"
    with duckdb.connect() as db:
        assert db.execute(of).fetchall() == [(odd, "", None)]


def test_all_files_are_of_one_moment(alpine: StoryMirror) -> None:
    """What is committed after the first file was begun is in none of them."""
    user = alpine.story.ids["max"]
    with alpine.database.open_transaction() as db:
        begin_snapshot(db)
        views = list_exported_views(db)
        before = b"".join(copy_view(db, views["sites"], ALPINE))
        with alpine.database.open_transaction() as other:
            other.execute(text(f"update directory.users set city = 'Later' where id = '{user}'"))
        after = b"".join(copy_view(db, views["users"], ALPINE))
    with alpine.database.open_transaction() as db:
        db.execute(text("update directory.users set city = null"))
    assert before.startswith(b"organization,connection_id")
    assert b"Later" not in after


def test_only_the_owner_can_read_it_and_nothing_is_left_of_a_failure(
    alpine: StoryMirror, tmp_path: Path
) -> None:
    write(alpine, tmp_path / "out", ExportFormat.CSV, "users")
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "out").glob("*.csv")}
    assert modes == {0}
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0
    with pytest.raises(InvalidInput, match="exists already"):
        write(alpine, tmp_path / "out", ExportFormat.CSV, "users")
    with pytest.raises(InvalidInput, match=r"no view 'usres' to export; .* users$"):
        write(alpine, tmp_path / "other", ExportFormat.CSV, "usres")
    with pytest.raises(InvalidInput, match=r"there is no folder .*/not; create it"):
        write(alpine, tmp_path / "not" / "there", ExportFormat.CSV, "users")
    for form in ExportFormat:
        for number, kind, words in (
            (errno.ENOSPC, StorageFull, "no space left, its disk is full"),
            (errno.EROFS, StateConflict, "read-only file system"),
        ):
            wanted = tmp_path / "other"
            with pytest.raises(kind, match=f"^{wanted} cannot be written: {words}"):
                _write_and_fail(alpine, wanted, form, number)
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    with pytest.raises(StateConflict, match=r"^/proc/out cannot be written: no such file"):
        write(alpine, Path("/proc/out"), ExportFormat.CSV, "users")


def _write_and_fail(alpine: StoryMirror, folder: Path, form: ExportFormat, number: int) -> None:
    def fail(view: str, _rows: int) -> None:
        if view == "users":
            raise OSError(number, "")

    request = ExportRequest(ALPINE, folder, form, ["sites", "users"])
    with alpine.database.open_transaction() as db:
        write_export(db, request, fail)


def test_an_export_says_what_was_not_read_and_is_refused_if_nothing_was(
    alpine: StoryMirror, tmp_path: Path
) -> None:
    manifest = write(alpine, tmp_path / "whole", ExportFormat.CSV, "sites")
    assert manifest["incomplete"] == []
    with alpine.database.open_transaction() as db:
        kept = db.execute(text("select resource, fresh_at from sync.streams")).all()
        db.execute(text("update sync.streams set fresh_at = null where resource = 'sites'"))
    try:
        manifest = write(alpine, tmp_path / "part", ExportFormat.CSV, "sites")
        why = "it was not read to the end yet"
        assert manifest["incomplete"] == [{"resource": "sites", "why": why}]
        with alpine.database.open_transaction() as db:
            db.execute(text("update sync.streams set fresh_at = null"))
        with pytest.raises(StateConflict, match="'tenant-mirror status 1' says why"):
            write(alpine, tmp_path / "nothing", ExportFormat.CSV)
        assert not (tmp_path / "nothing").exists()
    finally:
        back = text("update sync.streams set fresh_at = :fresh_at where resource = :resource")
        with alpine.database.open_transaction() as db:
            db.execute(back, [dict(row._mapping) for row in kept])


def test_duckdb_reads_the_views_through_its_extension_as_an_analyst(
    cluster: DatabaseFactory, alpine: StoryMirror
) -> None:
    package = find_spec("duckdb_extension_postgres_scanner")
    if package is None:
        pytest.skip("the extension is a wheel for Linux only")
    (folder,) = package.submodule_search_locations or []
    (extension,) = Path(folder).rglob("*.duckdb_extension")
    with open_reader(cluster, alpine.database) as reader, duckdb.connect() as db:
        db.execute(f"load '{extension}'")
        db.execute(f"attach '{reader.url}' as mirror (type postgres, read_only)")
        found = db.execute(
            "select role_name, count(distinct holder_id) from"
            " mirror.analytics.effective_role_holders where is_privileged group by 1 order by 1"
        ).fetchall()
    assert dict(found)["Global Administrator"] == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_export_that_a_signal_ends_leaves_nothing_behind(
    alpine: StoryMirror, tmp_path: Path, number: signal.Signals
) -> None:
    url = alpine.database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "worker.ops.cli", "export", "1", "--to", str(tmp_path / "a")]
    with alpine.database.open_transaction() as db:
        db.execute(text("lock table analytics.product_names"))  # for it to wait while it writes
        before = signal.signal(number, signal.SIG_DFL)  # where the tests ignore it, as by nohup
        try:
            export = subprocess.Popen(
                command, env=os.environ | {"DATABASE_URL": url}, stderr=subprocess.PIPE, text=True
            )
        finally:
            signal.signal(number, before)
        waits = text(
            "select exists (select from pg_locks where not granted"
            " and relation = 'analytics.product_names'::regclass)"
        )
        deadline = time.monotonic() + 30
        while not db.execute(waits).scalar_one() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.iterdir())
        export.send_signal(number)
        _, told = export.communicate(timeout=30)
    assert export.returncode == 1
    assert told.strip() == "Aborted!"
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_and_says_what(
    alpine: StoryMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = alpine.database.url.render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", url)
    told = CliRunner().invoke(cli, ["export", "Alpine", "--to", str(tmp_path / "a")])
    assert told.exit_code == 0, told.output
    assert "effective_role_holders" in told.output
    given = ["export", "1", "--to", str(tmp_path / "b"), "--view", "users", "--json"]
    told = CliRunner().invoke(cli, given)
    assert json.loads(told.stdout)["files"][0]["rows"] == len(alpine.ask(USERS))
    assert "1 view written to " not in told.stdout
    refused = CliRunner().invoke(cli, ["export", "nobody", "--to", str(tmp_path / "c")])
    assert refused.exit_code != 0
    assert not (tmp_path / "c").exists()
