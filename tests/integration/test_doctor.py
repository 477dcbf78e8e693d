"""``doctor``: each fault is found with its remedy, cheaply; live checks tell their price first."""

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from click.testing import CliRunner, Result
from sqlalchemy import text

from sandbox.servers import Servers
from sandbox.tenant import Nango, Tenant
from tests.support.databases import DatabaseFactory
from tests.support.mirror import MakeMirror, Mirror
from tests.test_docs import list_anchors
from worker.conditions.condition import Code
from worker.core.settings import Settings
from worker.ops.cli import cli
from worker.overview.doctor.diagnosis import DiagnosisCode
from worker.overview.doctor.live import compute_price, probe_tenants, read_report
from worker.overview.doctor.server_checks import (
    RedisFacts,
    check_clocks,
    check_database,
    check_disk,
    check_redis,
)
from worker.overview.fleet import load_fleet
from worker.probe.scope import ProbeScope
from worker.store.service.server_facts import DatabaseServerFacts

Run = Callable[..., Result]
GOOD = DatabaseServerFacts(
    version="18.0",
    version_number=180000,
    encoding="UTF8",
    role="tm",
    is_standby=False,
    now=0.0,
    is_read_only=False,
    unreadable_tables=0,
    unwritable_tables=0,
    foreign_partitioned=0,
    walled_tables=0,
    has_pooler=False,
    has_fsync=True,
    waits_for_disk=True,
    missing_views=(),
    are_views_current=True,
)


@pytest.fixture
def run(settings: Settings, servers: Servers) -> Run:
    assert settings.database_url is not None
    assert settings.nango_secret_key is not None
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": servers.redis_url,
        "NANGO_HOST": settings.nango_host,
        "NANGO_SECRET_KEY": settings.nango_secret_key.get_secret_value(),
    }

    def call(*arguments: str, **more: str) -> Result:
        return CliRunner().invoke(cli, ["doctor", *arguments], env=environment | more)

    return call


def told(done: Result) -> Any:
    assert done.exit_code in (0, 3), done.output
    return json.loads(done.stdout)


def codes(document: Any) -> set[str]:
    return {one["code"] for one in document["findings"]}


def test_a_look_costs_three_calls_and_names_what_is_in_order(
    mirror: Mirror, run: Run, nango: Nango
) -> None:
    nango.calls.reset()
    found = told(run("--json"))
    assert nango.calls.total == found["calls"] == 3
    # Servers of tests do not wait for their disk.
    assert DiagnosisCode.DATABASE_DURABILITY in codes(found)
    assert codes(found) <= {
        *(DiagnosisCode.POOLER, DiagnosisCode.DISK_LOW, DiagnosisCode.DATABASE_DURABILITY)
    }
    for scope in ("connections:list", "connections:read", "proxy"):
        assert f"Nango's key has the scope environment:{scope}" in found["checked"]
    shown = run()
    assert shown.exit_code == 3, "no workers run in this test"
    assert "do: " in shown.stdout


def test_a_missing_scope_and_a_wrong_key_are_named(mirror: Mirror, run: Run, nango: Nango) -> None:
    nango.scopes = {"environment:connections:list", "environment:connections:read"}
    try:
        done = run("--json")
    finally:
        nango.scopes = None
    assert DiagnosisCode.NANGO_SCOPE in codes(told(done))
    assert "environment:proxy" in done.stdout
    wrong = told(run("--json", NANGO_SECRET_KEY="7e4b1a5c-4a3e-4a38-9d2e-0f6c39a1b9aa"))
    assert DiagnosisCode.NANGO_KEY in codes(wrong)


def test_a_missing_permission_is_shown_with_the_text_for_the_customer(
    make_mirror: MakeMirror, run: Run
) -> None:
    mirror = make_mirror(Tenant(seed=3, users=20, groups=4, sites=3))
    mirror.tenant.options.refused_resources = {"sites"}
    mirror.sync()
    found = told(run("--json"))
    (missing,) = [one for one in found["conditions"] if one["code"] == Code.PERMISSION_MISSING]
    assert missing["customer_text"]
    assert "text for the customer (replace YOUR-CLIENT-ID by the client id" in run().stdout


def test_a_token_that_expires_is_reported(mirror: Mirror, run: Run) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(
            text(
                "insert into sync.api_tokens (id, name, digest, scopes, created_by, expires_at)"
                " values ('a', 'monitor', 'x', array['read'], 'me', now() + interval '3 days'),"
                " ('b', 'other', 'x', array['read'], 'me', now() + interval '90 days')"
            )
        )
    findings = told(run("--json"))["findings"]
    expiring = [one for one in findings if one["code"] == DiagnosisCode.TOKEN_EXPIRING]
    assert [one["subject"] for one in expiring] == ["token 'monitor'"]


def test_one_connection_is_probed_live(mirror: Mirror, run: Run, nango: Nango) -> None:
    nango.calls.reset()
    found = told(run("contoso", "--json"))
    assert [one["outcome"] for one in found["probed"]] == ["yes"]
    assert 3 < nango.calls.total <= 3 + 15
    assert "connection 1 can be mirrored: yes" in run("1").stdout


def test_all_tenants_are_probed_for_a_price_that_is_told_and_once_only(
    mirror: Mirror, run: Run, nango: Nango, tmp_path: Path
) -> None:
    report = tmp_path / "doctor.jsonl"
    assert run("--all", "--live").exit_code == 2
    refused = run("--all", "--live", "--report", str(report))
    assert refused.exit_code == 2
    assert "this sends up to 16 calls" in refused.output
    assert not report.exists()
    found = told(run("--all", "--live", "--report", str(report), "--yes", "--json"))
    assert [one["connection_id"] for one in found["probed"]] == [1]
    report.write_bytes(report.read_bytes() + b'{"connection_id": 2, "outc')
    nango.calls.reset()
    assert told(run("--all", "--live", "--report", str(report), "--json"))["probed"]
    assert nango.calls.total == 3, "what the report has is not probed again"
    fleet = load_fleet(mirror.database, mirror.runtime.settings)
    scopes: dict[int, ProbeScope] = {}
    assert (
        list(
            probe_tenants(mirror.runtime.nango, fleet.in_use, report, get_scope=scopes.__getitem__)
        )
        == []
    )
    assert set(read_report(report)) == {1}


def test_the_price_is_that_of_the_budget() -> None:
    price = compute_price(2000, None)
    assert (price.calls, price.minutes) == (32_000, 160)
    assert compute_price(2000, 1000).minutes == 32


def test_faults_of_servers_and_clocks_are_found() -> None:
    assert not list(check_database(GOOD))
    bad: dict[str, Any] = {
        "version_number": 140000,
        "encoding": "LATIN1",
        "is_standby": True,
        "is_read_only": True,
        "unreadable_tables": 3,
        "unwritable_tables": 1,
        "foreign_partitioned": 1,
        "walled_tables": 1,
        "has_pooler": True,
        "has_fsync": False,
        "waits_for_disk": False,
        "missing_views": ("analytics.users",),
        "are_views_current": False,
    }
    for name, value in bad.items():
        assert len(list(check_database(replace(GOOD, **{name: value})))) == 1, name
    good = {"redis_version": "8.0.1", "maxmemory": 0, "maxmemory_policy": "allkeys-lru"}
    assert not list(check_redis(RedisFacts(good)))
    for change in (
        {"maxmemory": 1},
        {"role": "slave"},
        {"rdb_last_bgsave_status": "err"},
        {"aof_last_write_status": "err"},
    ):
        assert len(list(check_redis(RedisFacts({**good, **change})))) == 1, change
    assert len(list(check_redis(RedisFacts(good, write_problem="NOPERM")))) == 1
    assert len(list(check_redis(RedisFacts(good, saves=False)))) == 1
    assert not list(check_redis(RedisFacts({**good, "aof_enabled": 1}, saves=False)))
    assert len(list(check_redis(RedisFacts({**good, "redis_version": "6.0.9"})))) == 1
    assert len(list(check_redis(RedisFacts({}, problem="Redis is unavailable")))) == 1
    assert len(list(check_redis(None))) == 1
    assert [one.subject for one in check_clocks({"a": 6, "b": -6, "c": 4, "d": None})] == ["a", "b"]
    assert list(check_disk(10, "/tmp"))  # noqa: S108
    assert not list(check_disk(10**10, "/tmp"))  # noqa: S108


def test_a_role_that_may_not_write_and_a_read_only_session_are_reported(
    mirror: Mirror, run: Run, cluster: DatabaseFactory, database_url: str
) -> None:
    url = database_url
    role = f"reader_{uuid.uuid4().hex[:8]}"
    schemas = "directory, events, sync, history"
    statements = (
        f"grant usage on schema {schemas} to {role}",
        f"grant select, insert on all tables in schema {schemas} to {role}",
    )
    cluster.create_role(role)
    with psycopg.connect(url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement.encode())
    found = told(run("--json", DATABASE_URL=cluster.build_login_url(url, role)))
    lacks = [one["sentence"] for one in found["findings"] if one["code"] == "database_rights"]
    assert any(re.fullmatch(rf"role {role} may not write to \d+ tables of .*", it) for it in lacks)
    assert any("cannot add partitions" in it for it in lacks)
    assert not any("may not read" in it for it in lacks)
    options = "options=-c%20default_transaction_read_only%3Don"
    found = told(run("--json", DATABASE_URL=f"{url}{'&' if '?' in url else '?'}{options}"))
    assert DiagnosisCode.DATABASE_READ_ONLY in codes(found)
    assert found["needs_attention"]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"drop owned by {role}".encode())
        db.execute(f"drop role {role}".encode())


def test_a_user_of_redis_that_may_not_write_is_reported(
    mirror: Mirror, run: Run, servers: Servers
) -> None:
    place = urlsplit(servers.redis_url)
    url = place._replace(netloc=f"doctor:pw@{place.hostname}:{place.port}").geturl()
    rights = ("reset", "on", ">pw", "~*", "+info", "+get", "+client")
    with redis.Redis.from_url(servers.redis_url) as client:
        client.execute_command("ACL", "SETUSER", "doctor", *rights)
        found = told(run("--json", REDIS_URL=url))
        client.execute_command("ACL", "DELUSER", "doctor")
        assert not list(client.scan_iter("tenant-mirror:doctor:*"))
    (refused,) = [one for one in found["findings"] if one["code"] == "redis_rights"]
    assert "SET, GET and DEL on tenant-mirror:doctor:*" in refused["sentence"]


def test_one_connection_with_a_condition_says_what_happens_next(mirror: Mirror, run: Run) -> None:
    mirror.sync()
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.connections set status = 'broken', status_reason = 'revoked'"))
    shown = run().stdout
    assert "Contoso (id 1): " in shown
    assert "          now: " in shown


@pytest.mark.parametrize("code", [*DiagnosisCode, *Code])
def test_every_link_of_a_finding_leads_to_a_heading(code: DiagnosisCode | Code) -> None:
    path, _, anchor = code.anchor.partition("#")
    assert anchor in list_anchors(Path(__file__).parents[2] / path)


def test_every_code_has_a_section_in_the_documentation() -> None:
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    sections = re.findall(r"^#### doctor (\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(sections) == sorted(DiagnosisCode)
