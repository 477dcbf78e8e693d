"""Real servers for every test: an embedded Postgres for each worker, a database for each test.

The environment is cleared first: a test never touches a server that somebody has given.
"""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from xdist.remote import Producer

from sandbox.servers import Home, Servers, run_servers
from sandbox.tenant import Nango, Server, Tenant, serve
from tests.support.databases import FAST_SETTINGS, POSTGRES_15, DatabaseFactory
from tests.support.mirror import LATER_RESOURCES, MakeMirror, MakeSynced, Mirror
from tests.support.nango import reset_nango
from tests.support.scheduling import SpreadingScheduling
from tests.support.synced import SyncedStates
from worker.core.process.tuning import GC_THRESHOLD
from worker.core.settings import Settings, load_settings
from worker.store.engine import Database
from worker.sync.connections.discover import discover
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime

for _name in list(os.environ):
    _ours = ("DATABASE_URL", "REDIS_URL", "NANGO_", "TENANT_MIRROR_", "CELERY_", "PG")
    if _name.startswith(_ours):
        del os.environ[_name]

# The width of the terminal that the tests run in: tables would be folded to it.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# One authority instead of 140: each client that is opened, here and in the programs that tests
# start, reads them all, which takes 60 ms. Tests of TLS bring authorities of their own.
os.environ.pop("SSL_CERT_DIR", None)
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "support" / "authority.pem")

# Selenium brings trio, which hands its random numbers to Hypothesis. No test of a property runs it.
os.environ["HYPOTHESIS_NO_PLUGINS"] = "1"

# How long an example takes says something of the machine, and of what else runs there.
hypothesis_settings.register_profile(
    "shared", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("shared")

# A shell starts what it runs in the background with SIGINT ignored, and programs inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tests may run on another PostgreSQL than the one that is installed with the sandbox."""
    parser.addoption("--postgres-bin", type=Path, help="directory of PostgreSQL's programs")
    parser.addoption("--write-images", action="store_true", help="renew docs/images")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Let each of several test processes begin to collect with other files.

    pytest compiles a test file with its assertions taken apart, which takes 17 s for all of them,
    and keeps the result beside the file. Processes that read the files in one order compile each
    of them at the same time; in this way, most files are compiled by one process alone.
    """
    config = session.config
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number and config.args == config.getini("testpaths"):
        files = [str(path) for path in sorted(Path(__file__).parent.rglob("test_*.py"))]
        processes = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        turns = [(int(number) + step) % processes for step in range(processes)]
        config.args = [file for turn in turns for file in files[turn::processes]]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Files take turns by what they cost: those that wait much, among those that compute.

    The order before that, which others shuffle, is the same in every process.
    """
    items.sort(key=lambda item: item.path)
    yield
    turns = _choose_turns(list(dict.fromkeys(item.path for item in items)))
    items.sort(key=lambda item: turns[item.path])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SpreadingScheduling | None:
    """Let several processes share the tests of a file that is longer than all others."""
    by_file = config.getoption("dist") == "loadfile"
    return SpreadingScheduling(config, log) if by_file else None


def pytest_collection_finish() -> None:
    """Leave the tests that were collected, half a million objects, out of every collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


LONGEST = ("test_any_history.py", "test_budgets.py", "test_kill_points.py", "test_page_refresh.py")
"""Files that go first: each takes a process for minutes, and none may be left for the end."""
WAITING_FOLDERS = ("acceptance", "browser")
"""Tests that mostly wait for processes, which leave the processor to others."""
LAST_WAITING = 0.8
"""The part of a run in which all of them begin: they are longer than others."""


def _choose_turns(files: list[Path]) -> dict[Path, float]:
    """A number for each file, by which they begin."""
    longest = [file for file in files if file.name in LONGEST]
    rest = [file for file in files if file.name not in LONGEST]
    waiting = [file for file in rest if file.parent.name in WAITING_FOLDERS]
    computing = [file for file in rest if file.parent.name not in WAITING_FOLDERS]
    turns = {file: LONGEST.index(file.name) - float(len(LONGEST)) for file in longest}
    turns |= {file: LAST_WAITING * n / len(waiting) for n, file in enumerate(waiting)}
    return turns | {file: n / len(computing) for n, file in enumerate(computing)}


MEMORY_BYTES = 8 * 1024**3
"""Room that the servers of a whole run may take up."""


def find_memory_folder() -> str | None:
    """A folder in memory with room for every server, where programs may run; None for the disk.

    Each test that gets a database makes some 300 files and deletes them: ext4 without a journal
    searches long for an inode that was not deleted just before.
    """
    folder = "/dev/shm"  # noqa: S108
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    has_room = found.f_bavail * found.f_frsize > MEMORY_BYTES
    runs_programs = not found.f_flag & os.ST_NOEXEC
    return folder if has_room and runs_programs and os.access(folder, os.W_OK) else None


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder that an unprivileged server may pass through."""
    path = Path(tempfile.mkdtemp(prefix="tenant-mirror-test-", dir=find_memory_folder()))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(home: Path, request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Embedded Postgres 18, or the one that was asked for, and Valkey for this test process."""
    bin_dir = request.config.getoption("--postgres-bin")
    with run_servers(
        Home(home / "18"), postgres_settings=FAST_SETTINGS, bin_dir=bin_dir
    ) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_15(home: Path) -> Iterator[str]:
    """The oldest Postgres that is supported, where the machine has it."""
    if not POSTGRES_15.exists():
        pytest.skip(f"no PostgreSQL 15 at {POSTGRES_15}")
    with run_servers(
        Home(home / "15"), postgres_settings=FAST_SETTINGS, bin_dir=POSTGRES_15
    ) as running:
        yield running.database_url


@pytest.fixture(scope="session")
def cluster(servers: Servers) -> Iterator[DatabaseFactory]:
    with closing(DatabaseFactory(servers.database_url)) as made:
        yield made


@pytest.fixture(scope="session")
def cluster_15(postgres_15: str) -> Iterator[DatabaseFactory]:
    with closing(DatabaseFactory(postgres_15)) as made:
        yield made


@pytest.fixture
def database_url(cluster: DatabaseFactory) -> Iterator[str]:
    url = cluster.create_migrated()
    yield url
    cluster.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def nango_server() -> Iterator[Server]:
    """Stopping a server takes longer than a test: one serves them all, emptied for each."""
    with serve(Nango(rate_limit=None)) as running:
        yield running


@pytest.fixture
def nango(nango_server: Server) -> Nango:
    """A simulated Nango without connections, calls or faults."""
    return reset_nango(nango_server)


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, database_url: str, nango: Nango, nango_server: Server
) -> Settings:
    """Of all resources; where a test has the mark ``first_resources``, of those alone."""
    few = request.node.get_closest_marker("first_resources") is not None
    return load_settings(
        resources_off=tuple(LATER_RESOURCES) if few else (),
        database_url=database_url,
        nango_host=nango_server.url,
        nango_secret_key=nango.key,
        retry_seconds=0.2,
        call_seconds=10,
    )


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Runtime]:
    opened = open_runtime(settings)
    yield opened
    close_runtime(opened)


@pytest.fixture
def make_mirror(runtime: Runtime, nango: Nango) -> MakeMirror:
    """Enrols a tenant; nothing is synced yet."""

    def make(tenant: Tenant) -> Mirror:
        nango.add_connection("contoso", tenant)
        discover(runtime.database, runtime.nango, runtime.settings)
        nango.calls.reset()
        return Mirror(runtime, nango, tenant)

    return make


@pytest.fixture(scope="session")
def synced_states() -> SyncedStates:
    return SyncedStates()


@pytest.fixture
def make_synced(runtime: Runtime, nango: Nango, synced_states: SyncedStates) -> MakeSynced:
    """Enrols a tenant and mirrors it, as another process would have done it a moment ago."""

    def make(**made_from: Any) -> Mirror:
        made = Mirror(runtime, nango, Tenant(**made_from))
        nango.add_connection("contoso", made.tenant)
        synced_states.sync(runtime.settings, repr(made_from))
        nango.calls.reset()
        nango.log.clear()
        return made

    return make


@pytest.fixture
def mirror(make_synced: MakeSynced) -> Mirror:
    """A small tenant, enrolled and mirrored."""
    return make_synced(seed=3, users=60, groups=8, sites=6)
