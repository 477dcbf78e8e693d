"""Exports of one customer's views into files: rate, and memory by the size of the customer."""

import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.large_directory import DirectorySize, count_memberships, create_directory
from benchmarks.processes import MeasurementFailed
from benchmarks.results import Scenario, SpeedTarget
from models.resources import RESOURCES
from worker.store.lease import interrupt_writer
from worker.store.mirror.nesting import compute_nesting

FORMATS: Final = ("csv", "parquet")
LIMIT: Final = "limit: COPY of the same views to files"

_USERS: Final = """
    update directory.users u
       set user_principal_name = replace(display_name, ' ', '.') || '@contoso.example',
           mail = replace(display_name, ' ', '.') || '@contoso.example', user_type = 'Member',
           account_enabled = true, department = 'Department ' || left(id::text, 1),
           job_title = 'Clerk', city = 'Zürich', country = 'Switzerland', created_date_time = now(),
           proxy_addresses = array['SMTP:' || id || '@contoso.example',
                                   'smtp:' || id || '@contoso.onmicrosoft.example']
"""
_GROUPS: Final = """
    update directory.groups
       set description = 'Whoever works on ' || display_name, mail_enabled = false,
           security_enabled = true, created_date_time = now()
"""


def name_rate(form: str) -> str:
    return f"export as {form}, all views but the large ones"


def name_peak(form: str) -> str:
    return f"peak memory of an export as {form}"


def name_growth(form: str) -> str:
    return f"{name_peak(form)}, against a customer of half the size"


def run(bench: Bench) -> None:
    """Export a customer and one of half its size, in both formats, and only COPY the same views."""
    environment = bench.environment
    users = bench.pick(full=100_000, quick=10_000, tiny=200)
    groups = bench.pick(full=20_000, quick=2_000, tiny=60)
    members = bench.pick(full=100, quick=50, tiny=5)
    whole = _create_customer(bench, DirectorySize(users, groups, members))
    half = _create_customer(bench, DirectorySize(users // 2, groups // 2, members))
    for _ in bench.iterate_rounds():
        views: list[str] = []
        for form in FORMATS:
            less = _export(bench, half, form)
            figures = _export(bench, whole, form)
            views = [one["view"] for one in figures["printed"]["files"]]
            bench.record_rate(name_rate(form), figures["rows"], figures, "rows")
            bench.record(name_peak(form), figures["peak_mb"], "MB", more_is_better=False)
            growth = figures["peak_mb"] / less["peak_mb"]
            bench.record(name_growth(form), growth, "x", more_is_better=False)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            asked = {"database": whole, "folder": folder, "views": views}
            limit = environment.run_measured("benchmarks.children.copy_views", asked, whole)
        for form in FORMATS:
            bench.record_rate(name_rate(form), figures["rows"], limit, "rows", who=LIMIT)
    for url in (whole, half):
        environment.drop(url)


def _create_customer(bench: Bench, size: DirectorySize) -> str:
    environment = bench.environment
    url = create_directory(environment, size)
    for statement in (_USERS, _GROUPS):
        environment.query(url, statement)
    with environment.open_database(url) as database, interrupt_writer(database, 1) as tx:
        compute_nesting(tx, RESOURCES["group_members"])
    environment.query(url, "vacuum full analyze directory.users")
    environment.query(url, "vacuum analyze")
    counts = count_memberships(environment, url)
    bench.add_note(
        f"{size.users:,} users, {size.groups:,} groups, {sum(counts.values()):,} memberships"
    )
    return url


def _export(bench: Bench, url: str, form: str) -> dict[str, Any]:
    """Export in a process of its own; ``rows`` of the figures are those of all views."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        to = str(Path(folder) / "export")
        given = ("export", "1", "--to", to, "--format", form, "--json")
        figures = bench.environment.run_command(url, *given)
        rows = {one["view"]: one["rows"] for one in figures["printed"]["files"]}
    stored = sum(count_memberships(bench.environment, url).values())
    if rows["group_members"] != stored:
        raise MeasurementFailed(
            f"group_members: {rows['group_members']:,} rows where {stored:,} should be"
        )
    return {**figures, "rows": sum(rows.values())}


def _build_targets() -> tuple[SpeedTarget, ...]:
    return tuple(
        target
        for form in FORMATS
        for target in (
            SpeedTarget(name_rate(form), at_least=100_000),
            SpeedTarget(name_peak(form), at_most=150),
            SpeedTarget(name_growth(form), at_most=1.1),
        )
    )


SCENARIO = Scenario("export", "exports of one customer's views", run, targets=_build_targets())
