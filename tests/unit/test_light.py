"""A person waits for a command: it loads nothing that it has no use for."""

import subprocess
import sys

import pytest

HEAVY = {"alembic", "celery", "httpx", "prometheus_client", "rich", "structlog", "tenacity"}

SCRIPT = """
import sys
{imports}
print(" ".join(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def loaded(imports: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(imports=imports)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


def test_help_loads_click_alone() -> None:
    found = loaded("import worker.ops.cli")
    assert not found & (HEAVY | {"sqlalchemy", "psycopg", "redis", "msgspec"})


@pytest.mark.parametrize(
    "imports",
    [
        "import worker.ops.cli.status, worker.nango.limiter, worker.core.log",
        "import worker.ops.cli.events",
        "import worker.ops.cli.sinks",
    ],
)
def test_commands_that_look_load_no_more_than_the_way_to_the_database(imports: str) -> None:
    assert not loaded(imports) & HEAVY
