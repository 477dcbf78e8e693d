"""A shell that has read the file which an earlier start wrote is no wish for other servers."""

import pytest

from worker.core.settings import SETTINGS, Settings, load_settings
from worker.ops.local.env_file import (
    DEMO_INTERVALS,
    SANDBOX_KEY,
    SANDBOX_URL,
    GeneratedSecrets,
    drop_own_values,
    render_notice,
)

OWN = GeneratedSecrets("pg secret", "valkey-secret", "0d8b6d4e-3a5f-4c59-8a57-0d6f2a3c9b10")
OURS = {
    "DATABASE_URL": "postgresql://tenant_mirror:pg%20secret@127.0.0.1:16169/tenant_mirror",
    "REDIS_URL": "redis://:valkey-secret@127.0.0.1:16170/0",
    "NANGO_HOST": "http://127.0.0.1:16171",
    "NANGO_SECRET_KEY": str(OWN.sandbox),
    SANDBOX_URL: "http://127.0.0.1:16171",
    SANDBOX_KEY: str(OWN.sandbox),
    **DEMO_INTERVALS,
}
THEIRS = {
    "DATABASE_URL": "postgresql://me:other@db.example/mirror",
    "REDIS_URL": "rediss://redis.example/0",
    "NANGO_HOST": "https://nango.example",
    "NANGO_SECRET_KEY": "5a4d0b0c-7e1a-4c3e-9d2b-1f0e6c8a2b47",
    "TENANT_MIRROR_DELTA_SECONDS": "60",
}
SERVERS = ("DATABASE_URL", "REDIS_URL", "NANGO_SECRET_KEY", "NANGO_HOST")


def settings_of(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_all_that_the_file_exports_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    given = drop_own_values(settings_of(monkeypatch, OURS), OURS, OWN)
    assert given.ignored_variables == (*SERVERS, *DEMO_INTERVALS)
    assert given.settings.database_url is None
    assert given.settings.redis_url is None
    assert given.settings.nango_secret_key is None
    assert given.settings.nango_host == SETTINGS["nango_host"].default
    said = render_notice(given.ignored_variables, "/home/me/env") or ""
    assert all(name in said for name in (*SERVERS, "/home/me/env"))
    assert not any(secret in said for secret in ("pg", "valkey", str(OWN.sandbox)))


@pytest.mark.parametrize("name", THEIRS)
def test_what_a_person_sets_in_such_a_shell_counts(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mixed = OURS | {name: THEIRS[name]}
    settings = settings_of(monkeypatch, mixed)
    given = drop_own_values(settings, mixed, OWN)
    assert set(given.ignored_variables) == {*SERVERS, *DEMO_INTERVALS} - {name}


def test_servers_of_a_persons_own_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(monkeypatch, THEIRS)
    given = drop_own_values(settings, THEIRS, OWN)
    assert given.ignored_variables == ()
    assert given.settings == settings
    assert render_notice(given.ignored_variables, "env") is None


@pytest.mark.parametrize("environment", [{}, THEIRS, OURS])
def test_a_home_that_has_made_nothing_yet_owns_nothing(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    settings = settings_of(monkeypatch, environment)
    given = drop_own_values(settings, environment, GeneratedSecrets(None, None, None))
    assert given == type(given)(settings, ())


def test_a_moved_port_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports change where another program has taken them; what a home has generated stays."""
    old = OURS | {"DATABASE_URL": OURS["DATABASE_URL"].replace("16169", "16999")}
    given = drop_own_values(settings_of(monkeypatch, old), old, OWN)
    assert "DATABASE_URL" in given.ignored_variables
