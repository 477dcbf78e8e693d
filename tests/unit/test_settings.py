"""Settings are read once, validated, and a bad one is named while a secret one is never shown."""

import json
import os
from pathlib import Path

import pytest
from msgspec import structs

from worker.app import build_broker_url
from worker.core.errors import ConfigurationError
from worker.core.secret import SecretStr
from worker.core.settings import MICROSOFT_PROVIDERS, SETTINGS, load_settings
from worker.store.database_url import parse_database_url

Env = pytest.MonkeyPatch


def complaint() -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    return str(caught.value)


def test_without_an_environment_the_defaults_stand() -> None:
    settings = load_settings()
    assert (settings.database_url, settings.redis_url, settings.nango_secret_key) == (None,) * 3
    assert settings.nango_host == "https://api.nango.dev"
    assert settings.nango_integrations == ()
    assert settings.delta_seconds == 5 * 60
    assert settings.roles_seconds == 15 * 60
    assert settings.roles_filtered_seconds == 3600
    assert settings.sites_seconds == 6 * 3600
    assert settings.app_roles_seconds == 3600
    assert settings.other_app_roles_seconds == 86_400
    assert settings.first_full_walk_seconds == 24 * 3600
    assert settings.full_walk_seconds == 7 * 24 * 3600
    assert settings.slice_seconds == 60
    assert (settings.guard_percent, settings.guard_rows) == (20, 50)
    assert (settings.log_level, settings.log_format) == ("INFO", "json")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        load_settings().delta_seconds = 1  # type: ignore[misc]


def test_every_setting_explains_itself() -> None:
    assert all(setting.description for setting in SETTINGS.values())


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("database_url", "DATABASE_URL"),
        ("redis_url", "REDIS_URL"),
        ("nango_host", "NANGO_HOST"),
        ("nango_secret_key", "NANGO_SECRET_KEY"),
        ("nango_integrations", "NANGO_INTEGRATIONS"),
        ("delta_seconds", "TENANT_MIRROR_DELTA_SECONDS"),
        ("log_level", "TENANT_MIRROR_LOG_LEVEL"),
    ],
)
def test_the_names_in_the_environment_are_a_contract(field: str, name: str) -> None:
    assert SETTINGS[field].name == name


def test_the_environment_is_read(monkeypatch: Env) -> None:
    monkeypatch.setenv("TENANT_MIRROR_DELTA_SECONDS", "60")
    monkeypatch.setenv("NANGO_HOST", "http://localhost:3003/")
    monkeypatch.setenv("NANGO_INTEGRATIONS", " entra, ,microsoft ,")
    settings = load_settings()
    assert settings.delta_seconds == 60
    assert settings.nango_host == "http://localhost:3003"
    assert settings.nango_integrations == ("entra", "microsoft")


def test_an_empty_variable_is_no_value(monkeypatch: Env) -> None:
    monkeypatch.setenv("NANGO_SECRET_KEY", "")
    monkeypatch.setenv("TENANT_MIRROR_DELTA_SECONDS", "")
    settings = load_settings()
    assert settings.nango_secret_key is None
    assert settings.delta_seconds == 300


def test_an_argument_wins_over_the_environment(monkeypatch: Env) -> None:
    monkeypatch.setenv("TENANT_MIRROR_DELTA_SECONDS", "60")
    monkeypatch.setenv("REDIS_URL", "redis://one")
    settings = load_settings(delta_seconds=90, redis_url="redis://two")
    assert settings.delta_seconds == 90
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://two"


# ---- files


@pytest.mark.parametrize("content", ["s3cret", "s3cret\n", "s3cret\r\n"])
def test_a_value_may_be_in_a_file(monkeypatch: Env, tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content.encode())
    monkeypatch.setenv("NANGO_SECRET_KEY_FILE", str(path))
    settings = load_settings()
    assert settings.nango_secret_key is not None
    assert settings.nango_secret_key.get_secret_value() == "s3cret"


def test_a_file_may_stand_for_any_setting(monkeypatch: Env, tmp_path: Path) -> None:
    path = tmp_path / "seconds"
    path.write_text("77\n")
    monkeypatch.setenv("TENANT_MIRROR_DELTA_SECONDS_FILE", str(path))
    assert load_settings().delta_seconds == 77


def test_a_value_and_its_file_together_are_refused(monkeypatch: Env, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("s3cret")
    monkeypatch.setenv("NANGO_SECRET_KEY", "0ther")
    monkeypatch.setenv("NANGO_SECRET_KEY_FILE", str(path))
    said = complaint()
    assert said == "NANGO_SECRET_KEY: NANGO_SECRET_KEY_FILE is set as well; keep one of them"
    assert "s3cret" not in said
    assert "0ther" not in said


def test_a_file_that_is_missing_is_named(monkeypatch: Env, tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))
    said = complaint()
    assert "DATABASE_URL_FILE" in said
    assert str(path) in said


def test_a_folder_is_no_file(monkeypatch: Env, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path))
    assert "DATABASE_URL_FILE" in complaint()


def test_a_file_that_is_no_text_is_named(monkeypatch: Env, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"\xff\xfes3cret")
    monkeypatch.setenv("NANGO_SECRET_KEY_FILE", str(path))
    said = complaint()
    assert "NANGO_SECRET_KEY_FILE" in said
    assert "s3cret" not in said


def test_a_value_from_a_file_is_not_quoted(monkeypatch: Env, tmp_path: Path) -> None:
    """The file may be that of a secret, by mistake."""
    path = tmp_path / "key"
    path.write_text("hunter2")
    monkeypatch.setenv("TENANT_MIRROR_DELTA_SECONDS_FILE", str(path))
    assert complaint() == "TENANT_MIRROR_DELTA_SECONDS: must be a whole number of at least 1"


# ---- mistakes


def test_each_mistake_has_a_line(monkeypatch: Env) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://u:hunter2@h/d")
    monkeypatch.setenv("NANGO_HOST", "nango")
    monkeypatch.setenv("TENANT_MIRROR_DELTA_SECONDS", "soon")
    monkeypatch.setenv("TENANT_MIRROR_LOG_LEVEL", "LOUD")
    monkeypatch.setenv("NANGO_SECRET_KEY_FILE", "/nowhere/at/all")
    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    monkeypatch.setenv("REDIS_URL_FILE", "/nowhere/at/all")
    lines = complaint().splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == [
        "DATABASE_URL",
        "NANGO_HOST",
        "NANGO_SECRET_KEY_FILE",
        "REDIS_URL",
        "TENANT_MIRROR_DELTA_SECONDS",
        "TENANT_MIRROR_LOG_LEVEL",
    ]
    assert all(line.partition(": ")[2] for line in lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "postgres://[hunter2"),
        ("REDIS_URL", "http://:hunter2@h"),
        ("REDIS_URL", "hunter2"),
        ("NANGO_HOST", "ftp://u:hunter2@h"),
        ("NANGO_HOST", "http://[hunter2"),
        ("NANGO_HOST", "hunter2"),
    ],
)
def test_a_bad_address_is_named_and_not_shown(monkeypatch: Env, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    said = complaint()
    assert said.startswith(f"{name}: ")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "host",
    [
        "https://nango.example:port",
        "https://nango.example:99999",
        "https://nango.example/?a=b",
        "https://nango.example/#a",
        "https://nango.example:0",
        "https://user:pass@nango.example",
        "https://nango.example/?",
        "https://nango.example/a b",
        "https://nango.example\n",
        "https://",
        "https:nango.example",
    ],
)
def test_an_address_of_nango_that_cannot_work_is_refused(monkeypatch: Env, host: str) -> None:
    monkeypatch.setenv("NANGO_HOST", host)
    assert complaint().startswith("NANGO_HOST: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delta_seconds", 0),
        ("delta_seconds", -1),
        ("cursor_days", 7.5),
        ("cursor_days", 0),
        ("slice_seconds", 76),
        ("guard_percent", 0),
        ("guard_percent", 101),
        ("guard_rows", -1),
        ("full_walk_seconds", 59),
        ("tick_seconds", 0),
        ("tick_seconds", "nan"),
        ("tick_seconds", "\N{FULLWIDTH DIGIT SIX}"),
        ("nango_calls_per_minute", 0),
        ("event_prefix", "Com.Example"),
        ("event_prefix", "com.example\n"),
        ("log_level", "LOUD"),
        ("log_format", "xml"),
    ],
)
def test_a_value_out_of_bounds_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"^{SETTINGS[field].name}: "):
        load_settings(**{field: value})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DELTA_SECONDS", "soon", "a whole number of at least 1, not 'soon'"),
        ("DELTA_SECONDS", "60.5", "a whole number of at least 1, not '60.5'"),
        ("DELTA_SECONDS", "0x10", "a whole number of at least 1, not '0x10'"),
        (
            "DELTA_SECONDS",
            "9" * 5000,
            "a whole number of at least 1, not a text of 5000 characters",
        ),
        ("DELTA_SECONDS", "0", "a whole number of at least 1, not '0'"),
        ("CURSOR_DAYS", "long", "a number above 0 and up to 7, not 'long'"),
        ("CURSOR_DAYS", "8", "a number above 0 and up to 7, not '8'"),
        ("CALL_SECONDS", "inf", "a number above 0, not 'inf'"),
        ("FIRST_LOAD_PERCENT", "-1", "a number from 0 to 100, not '-1'"),
        ("LOG_FORMAT", "xml", "console or json, not 'xml'"),
        ("LOG_LEVEL", "\udc80", "DEBUG, ERROR, INFO or WARNING, not '\\udc80'"),
        (
            "EVENT_PREFIX",
            "Com.Example",
            "words of a-z and 0-9 with dots between them, such as com.example, not 'Com.Example'",
        ),
    ],
)
def test_a_complaint_says_what_would_do(monkeypatch: Env, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"TENANT_MIRROR_{name}", value)
    assert complaint() == f"TENANT_MIRROR_{name}: must be {said}"


@pytest.mark.parametrize("value", ["60", " 60 ", "+60", "60.0", "6_0", "060"])
def test_a_whole_number_may_be_spelled_so(monkeypatch: Env, value: str) -> None:
    monkeypatch.setenv("TENANT_MIRROR_DELTA_SECONDS", value)
    assert load_settings().delta_seconds == 60


def test_an_argument_that_is_no_setting_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="delta_minutes"):
        load_settings(delta_minutes=5)


def test_secrets_are_compared_by_what_they_hide() -> None:
    assert SecretStr("a") == SecretStr("a") != SecretStr("b")
    assert len({SecretStr("a"), SecretStr("a")}) == 1


def test_a_secret_is_not_in_the_text_of_the_settings() -> None:
    settings = load_settings(
        database_url="postgresql://u:hunter2@h/d",
        redis_url="redis://:hunter2@h",
        nango_secret_key="hunter2",
    )
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)
    assert "hunter2" not in json.dumps(structs.asdict(settings), default=str)
    assert "hunter2" not in f"{settings.redis_url} {settings.redis_url!r} {[settings.redis_url]}"


# ---- addresses


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_postgres_is_understood(monkeypatch: Env, scheme: str) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://u:p%40ss@h:5433/d?sslmode=require")
    settings = load_settings()
    assert settings.database_url is not None
    url = parse_database_url(settings.database_url.get_secret_value())
    assert url.drivername == "postgresql+psycopg"
    assert (url.host, url.port, url.database, url.password) == ("h", 5433, "d", "p@ss")
    assert url.query == {"sslmode": "require"}


@pytest.mark.parametrize(
    ("address", "broker"),
    [
        ("redis://h:6379/1", "redis://h:6379/1"),
        ("rediss://:p@h/0?ssl_cert_reqs=required", "rediss://:p@h/0?ssl_cert_reqs=required"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("unix:///run/redis.sock?db=2", "redis+socket:///run/redis.sock?virtual_host=2"),
        (
            "unix:///run/redis.sock?password=p%40&db=2",
            "redis+socket://:p%40@/run/redis.sock?virtual_host=2",
        ),
        ("unix://u:p@/run/redis.sock?db=2", "redis+socket://u:p@/run/redis.sock?virtual_host=2"),
    ],
)
def test_the_broker_is_spelled_as_celery_wants_it(address: str, broker: str) -> None:
    assert build_broker_url(load_settings(redis_url=address)) == broker


def test_without_redis_the_broker_is_no_real_address() -> None:
    assert "REDIS_URL-is-not-set" in build_broker_url(load_settings())


def test_the_providers_are_microsofts() -> None:
    assert all(provider.startswith("microsoft") for provider in MICROSOFT_PROVIDERS)
    assert "DATABASE_URL" not in os.environ
