"""What a refused connection to Postgres means is judged by its SQL state, in every language."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from sandbox.servers import Servers
from tests.support.refusing_postgres import PASSWORD_REQUEST, build_refusal, run_refusing_postgres
from worker.core.errors import ConfigurationError, MirrorError, RetryLater, ServerUnavailable
from worker.store.engine import Database
from worker.store.libpq import connect


def trouble_at(url: str) -> MirrorError:
    database = Database(url)
    try:
        with pytest.raises(MirrorError) as caught, database.open_transaction():
            pass
    finally:
        database.close()
    return caught.value


def address(port: int, more: str = "") -> str:
    return f"postgresql://u:hunter2@127.0.0.1:{port}/d{more}"


KEPT_OUT = "refused the login"
UNGRANTED = "rejects a connection parameter"
REFUSALS = {
    "28P01 German": (
        build_refusal("28P01", "Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen"),
        KEPT_OUT,
    ),
    "28P01 Japanese": (
        build_refusal("28P01", 'ユーザー"u"のパスワード認証に失敗しました', "致命的エラー"),
        KEPT_OUT,
    ),
    "28P01 Latin-1": (
        build_refusal("28P01", "authentification par mot de passe échouée", "FATALE", "latin-1"),
        KEPT_OUT,
    ),
    "28000 Russian": (build_refusal("28000", 'роль "u" не существует', "ВАЖНО"), KEPT_OUT),
    "28000 pg_hba": (
        build_refusal("28000", "kein pg_hba.conf-Eintrag für Host »10.0.0.1«"),
        KEPT_OUT,
    ),
    "3D000 French": (build_refusal("3D000", "la base de données « d » n'existe pas"), KEPT_OUT),
    "42704": (build_refusal("42704", "unbekannter Konfigurationsparameter »x«"), UNGRANTED),
    "22023": (build_refusal("22023", "ungültiger Wert für Parameter »TimeZone«"), UNGRANTED),
    "55P02": (build_refusal("55P02", "Parameter kann nicht geändert werden"), UNGRANTED),
    "42501": (
        build_refusal("42501", "keine Berechtigung für Datenbank d"),
        "denies the role a permission",
    ),
    "pooler without a state of its own": (build_refusal("08P01", "no such user: u"), KEPT_OUT),
    "pooler with an internal state": (build_refusal("XX000", "Tenant or user not found"), KEPT_OUT),
    "pooler that knows no parameter": (
        build_refusal("08P01", "unsupported startup parameter: geqo"),
        UNGRANTED,
    ),
}
PASSING = {
    "53300 German": build_refusal("53300", "tut mir leid, schon zu viele Verbindungen"),
    "57P03 German": build_refusal("57P03", "das Datenbanksystem startet"),
    "57P01 Spanish": build_refusal("57P01", "terminando la conexión debido a una orden", "FATAL"),
    "XX000 of Postgres": build_refusal("XX000", "interner Fehler"),
    "08P01 of Postgres": build_refusal("08P01", "ungültige Protokollnachricht"),
    "a state that nobody knows": build_refusal("ZZ123", "etwas anderes"),
}


@pytest.mark.parametrize(("answer", "meaning"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_for_who_we_are_or_what_we_ask_for_is_a_wrong_configuration(
    answer: bytes, meaning: str
) -> None:
    with run_refusing_postgres(answer) as port:
        error = trouble_at(address(port))
    assert isinstance(error, ConfigurationError)
    assert meaning in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
def test_a_refusal_that_passes_is_a_server_that_is_away(answer: bytes) -> None:
    with run_refusing_postgres(answer) as port:
        error = trouble_at(address(port))
    assert isinstance(error, ServerUnavailable)


def test_a_server_whose_disk_fails_is_waited_for() -> None:
    with run_refusing_postgres(build_refusal("58030", "Datei konnte nicht gelesen werden")) as port:
        error = trouble_at(address(port))
    assert isinstance(error, RetryLater)
    assert "a disk of Postgres" in str(error)


def test_a_refusal_behind_the_question_for_a_password_counts_as_well() -> None:
    with run_refusing_postgres(PASSWORD_REQUEST, build_refusal("28P01", "Passwort falsch")) as port:
        error = trouble_at(address(port))
    assert isinstance(error, ConfigurationError)
    assert "refused the login: Passwort falsch" in str(error)


def test_a_password_that_is_wanted_and_not_given_is_a_wrong_configuration() -> None:
    with run_refusing_postgres(PASSWORD_REQUEST, b"") as port:
        error = trouble_at(f"postgresql://u@127.0.0.1:{port}/d?passfile=/nowhere")
    assert isinstance(error, ConfigurationError)
    assert KEPT_OUT in str(error)


def test_the_message_of_the_server_is_shown_in_one_line_without_what_libpq_adds() -> None:
    with run_refusing_postgres(build_refusal("28P01", "falsch", "SCHWERWIEGEND")) as port:
        error = trouble_at(address(port))
        place = f"127.0.0.1:{port}/d"
    assert str(error) == f"Postgres at {place} refused the login: falsch, SQL state 28P01"


def test_a_command_says_it_in_one_line() -> None:
    with run_refusing_postgres(REFUSALS["28P01 German"][0]) as port:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("tenant-mirror")), "status"],
            env={**os.environ, "DATABASE_URL": address(port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert "Passwort-Authentifizierung" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_errors_of_statements_read_as_before(servers: Servers) -> None:
    """libpq is verbose only while it connects."""
    with connect(servers.database_url) as raw:
        with pytest.raises(psycopg.errors.UndefinedFunction) as caught:
            raw.execute("select pg_catalog.nowhere()")
        assert str(caught.value).startswith("function pg_catalog.nowhere() does not exist")
        assert "LOCATION" not in str(caught.value)


@pytest.mark.parametrize("more", ["?sslmode=nowhere", "?sslmode=require&sslrootcert=/nowhere.pem"])
def test_parameters_that_make_no_sense_are_a_wrong_configuration(more: str) -> None:
    with run_refusing_postgres(build_refusal("57P03", "later")) as port:
        error = trouble_at(address(port, more))
    assert isinstance(error, ConfigurationError)
    assert UNGRANTED in str(error)


# ---- several hosts


@pytest.fixture
def closed() -> Iterator[int]:
    """A port at which nobody answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def spellings(servers: Servers, first: int) -> dict[str, str]:
    """URLs of the database that name another port before it."""
    url = make_url(servers.database_url)
    login, name = f"{url.username}:{url.password}", url.database
    here, two = url.port, f"127.0.0.1:{first},127.0.0.1:{url.port}"
    return {
        "commas": f"postgresql://{login}@{two}/{name}",
        "lists": f"postgresql://{login}@/{name}?host=127.0.0.1,127.0.0.1&port={first},{here}",
        "pairs": f"postgresql://{login}@/{name}?host=127.0.0.1:{first}&host=127.0.0.1:{here}",
        "any": f"postgres://{login}@{two}/{name}?target_session_attrs=any",
    }


@pytest.mark.parametrize("spelling", ["commas", "lists", "pairs", "any"])
def test_of_several_hosts_one_that_answers_is_used(
    servers: Servers, closed: int, spelling: str
) -> None:
    database = Database(spellings(servers, closed)[spelling])
    with database.open_transaction() as db:
        assert db.exec_driver_sql("select 1").scalar_one() == 1
    port = make_url(servers.database_url).port
    assert database.server.startswith(f"127.0.0.1:{closed},127.0.0.1:{port}/")
    database.close()


def test_of_several_hosts_that_refuse_one_that_passes_counts(closed: int) -> None:
    passing, final = PASSING["57P03 German"], REFUSALS["28P01 German"][0]
    with run_refusing_postgres(passing) as starts, run_refusing_postgres(final) as refuses:
        for ports in ((starts, refuses), (refuses, starts), (closed, starts)):
            hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
            assert isinstance(trouble_at(f"postgresql://u:p@{hosts}/d"), ServerUnavailable)
        for ports in ((closed, refuses), (refuses, closed)):
            hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
            error = trouble_at(f"postgresql://u:p@{hosts}/d")
            assert isinstance(error, ConfigurationError)
            assert "fehlgeschlagen" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@a:x,b/d",
        "postgresql://u:hunter2@a,,b/d",
        "postgresql://u:hunter2@a,b/d?host=c",
        "postgresql://u:hunter2@/d?host=a,b&port=1,2,3",
        "postgresql://u:hunter2@a:port/d",
    ],
)
def test_hosts_that_make_no_sense_are_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as caught:
        Database(url)
    assert "hunter2" not in str(caught.value)


# ---- libpq's variables


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("PGHOSTADDR", "postgresql://u@h:1/d"),
        ("PGSERVICE", "postgresql://u@h:1/d"),
        ("PGTARGETSESSIONATTRS", "postgresql://u@h:1/d"),
        ("PGHOST", "postgresql:///d"),
        ("PGPORT", "postgresql://u@h/d"),
        ("PGDATABASE", "postgresql://u@h:1"),
    ],
)
def test_a_variable_that_would_name_another_server_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setenv(variable, "elsewhere")
    with pytest.raises(ConfigurationError, match=f"{variable} is set"):
        Database(url)


def test_variables_that_the_url_stands_before_change_nothing(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGAPPNAME", "PGCONNECT_TIMEOUT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PGPORT", "9")
    database = Database(servers.database_url)
    with database.open_transaction() as db:
        named = db.exec_driver_sql("show application_name").scalar_one()
    assert named == "tenant-mirror"
    database.close()


def test_a_password_and_the_protection_of_the_line_may_come_from_variables(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_url(servers.database_url)
    bare = f"postgresql://{url.username}@{url.host}:{url.port}/{url.database}"
    monkeypatch.setenv("PGPASSWORD", str(url.password))
    database = Database(bare)
    with database.open_transaction() as db:
        assert db.exec_driver_sql("select 1").scalar_one() == 1
    database.close()
    monkeypatch.setenv("PGSSLMODE", "require")
    error = trouble_at(bare)
    assert isinstance(error, ServerUnavailable)
    assert "SSL" in str(error)
