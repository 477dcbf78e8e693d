"""Groups in groups: what their closure costs, and how long questions take with and without it."""

from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.large_directory import DirectorySize, count_memberships, create_directory
from benchmarks.results import Scenario, SpeedTarget

QUESTIONS: Final = 15
RECURSIVE: Final = "a plain recursive query"

BUILD = "closure of groups: built at the end of a first load"
AGAIN = "closure of groups: checked at the end of a full walk"
SIZE = "closure of groups: bytes for each pair"
NESTED = "closure of groups: a group added to a group, or removed"
OTHER = "closure of groups: a user added to a group, or removed"
USER = "all groups of one user"
GROUP = "all members of one group"
IS_IN = "is a user in a group"
TENANT = "all members of all groups"


def run(bench: Bench) -> None:
    """Fill the tables as a first load would, then build the closure and ask."""
    environment = bench.environment
    size = DirectorySize(
        users=bench.pick(full=100_000, quick=10_000, tiny=200),
        groups=bench.pick(full=20_000, quick=2_000, tiny=60),
        members=bench.pick(full=100, quick=50, tiny=5),
    )
    base = create_directory(environment, size)
    asked = {"users": _list_users(bench, base, size.users)}
    for _ in bench.iterate_rounds():
        with environment.use_clone(base) as url:
            _record(bench, environment.run_measured("benchmarks.children.nesting", asked, url))
    counts = count_memberships(environment, base)
    bench.add_note(
        f"{size.users:,} users, {size.groups:,} groups, {sum(counts.values()):,} memberships, of"
        f" which {counts['group']:,} are of groups; the groups asked for are the {QUESTIONS} that"
        " contain the most groups"
    )
    environment.drop(base)


def _list_users(bench: Bench, url: str, count: int) -> list[str]:
    numbers = [number * count // QUESTIONS for number in range(QUESTIONS)]
    statement = "select md5('users' || n)::uuid::text from unnest(%s::int[]) n"
    return [one for (one,) in bench.environment.query(url, statement, numbers)]


def _record(bench: Bench, figures: dict[str, Any]) -> None:
    bench.record(BUILD, figures["build"], "s", figures, more_is_better=False)
    bench.record(AGAIN, figures["again"], "s", more_is_better=False)
    bench.record(SIZE, figures["bytes"] / max(1, figures["pairs"]), "bytes", more_is_better=False)
    bench.add_note(f"{figures['pairs']:,} pairs, {figures['depth']} deep")
    for line, name in ((NESTED, "change of a group"), (OTHER, "change of a user")):
        bench.record(line, figures[name]["median"], "ms", figures[name], more_is_better=False)
    for line, name in ((USER, "user"), (GROUP, "group"), (IS_IN, "is in"), (TENANT, "tenant")):
        _record_question(bench, line, figures, name)
        _record_question(bench, f"{line}, with paths", figures, f"{name} with paths")


def _record_question(bench: Bench, line: str, figures: dict[str, Any], name: str) -> None:
    for who, key in ((None, f"ours, {name}"), (RECURSIVE, f"recursive, {name}")):
        if found := figures.get(key):
            more = {} if who is None else {"who": who}
            bench.record(line, found["median"], "ms", found, more_is_better=False, **more)


SCENARIO = Scenario(
    "nesting",
    "groups in groups",
    run,
    targets=(
        SpeedTarget(USER, at_most=200),
        SpeedTarget(GROUP, at_most=200),
        SpeedTarget(IS_IN, at_most=5),
        SpeedTarget(TENANT, at_most=60_000),
    ),
)
