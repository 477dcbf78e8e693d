"""Judges facts about the servers. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from worker.conditions.condition import Severity
from worker.overview.doctor.diagnosis import (
    MAX_CLOCK_SKEW,
    MIN_DISK_BYTES,
    TOKEN_DAYS,
    Diagnosis,
    DiagnosisCode,
)
from worker.store.service.server_facts import DatabaseServerFacts
from worker.store.service.tokens import ApiToken

MIN_POSTGRES: Final = 150000
MIN_REDIS: Final = (6, 2)


@dataclass(frozen=True)
class RedisFacts:
    """What Redis says about itself. ``problem`` is why it cannot be used."""

    info: Mapping[str, object]
    problem: str | None = None


def check_database(facts: DatabaseServerFacts) -> Iterator[Diagnosis]:
    subject = "Postgres"
    if facts.version_number < MIN_POSTGRES:
        yield _build(
            DiagnosisCode.DATABASE_SETUP,
            Severity.ERROR,
            subject,
            f"it is version {facts.version}, older than 15",
            "upgrade it to PostgreSQL 15 or newer",
        )
    if facts.encoding != "UTF8":
        yield _build(
            DiagnosisCode.DATABASE_SETUP,
            Severity.ERROR,
            subject,
            f"its encoding is {facts.encoding}, which cannot store every name",
            "move the mirror to a database that is created with encoding 'UTF8'",
        )
    if facts.is_standby:
        yield _build(
            DiagnosisCode.DATABASE_SETUP,
            Severity.CRITICAL,
            subject,
            "it is a standby, which accepts no writes",
            "let DATABASE_URL lead to the primary, or add target_session_attrs=read-write to it",
        )
    if facts.forbidden_tables:
        yield _build(
            DiagnosisCode.DATABASE_RIGHTS,
            Severity.ERROR,
            subject,
            f"role {facts.role} may not read {facts.forbidden_tables:,} tables of the mirror",
            "run 'tenant-mirror migrate' as the role of the service, or make it the owner",
        )
    if facts.has_pooler:
        yield _build(
            DiagnosisCode.POOLER,
            Severity.INFO,
            subject,
            "a pooler shares its sessions, so settings are sent with each transaction",
            "nothing to do; migrations need a URL that leads to Postgres itself",
        )


def check_redis(facts: RedisFacts | None) -> Iterator[Diagnosis]:
    """``facts`` is None without a ``REDIS_URL``."""
    subject = "Redis"
    if facts is None:
        yield _build(
            DiagnosisCode.REDIS_SETUP,
            Severity.WARNING,
            subject,
            "REDIS_URL is not set, so no workers can run and budgets are not shared",
            "set REDIS_URL to a Redis 6.2 or newer, or Valkey",
        )
        return
    if facts.problem is not None:
        sentence, remedy = facts.problem, "correct REDIS_URL or the rights of its user"
        yield _build(DiagnosisCode.REDIS_RIGHTS, Severity.ERROR, subject, sentence, remedy)
        return
    version = str(facts.info.get("redis_version", ""))
    if version and tuple(map(int, version.split(".")[:2])) < MIN_REDIS:
        yield _build(
            DiagnosisCode.REDIS_SETUP,
            Severity.ERROR,
            subject,
            f"it is version {version}, older than 6.2",
            "upgrade it to 6.2 or newer, or use Valkey",
        )
    policy = facts.info.get("maxmemory_policy")
    if facts.info.get("maxmemory") and policy not in (None, "noeviction"):
        yield _build(
            DiagnosisCode.REDIS_SETUP,
            Severity.WARNING,
            subject,
            f"it drops keys when its memory is full (maxmemory-policy {policy}), perhaps messages",
            "set maxmemory-policy to noeviction",
        )


def check_clocks(offsets: Mapping[str, float | None]) -> Iterator[Diagnosis]:
    """``offsets`` are the seconds by which each clock is ahead of Postgres's."""
    for name, offset in offsets.items():
        if offset is not None and abs(offset) > MAX_CLOCK_SKEW:
            side = "ahead of" if offset > 0 else "behind"
            yield _build(
                DiagnosisCode.CLOCK_SKEW,
                Severity.WARNING,
                name,
                f"its clock is {abs(offset):.0f} s {side} that of Postgres",
                "synchronise both with NTP; webhooks and certificates depend on it",
            )


def check_disk(free_bytes: int, place: str) -> Iterator[Diagnosis]:
    if free_bytes < MIN_DISK_BYTES:
        yield _build(
            DiagnosisCode.DISK_LOW,
            Severity.WARNING,
            "this host",
            f"{free_bytes / 1024**2:,.0f} MiB are free at {place}",
            "free some space; logs and temporary files need it",
        )


def check_tokens(tokens: Sequence[ApiToken], now: datetime) -> Iterator[Diagnosis]:
    for token in tokens:
        if token.revoked_at is not None or token.expires_at is None:
            continue
        if now <= token.expires_at <= now + timedelta(days=TOKEN_DAYS):
            yield _build(
                DiagnosisCode.TOKEN_EXPIRING,
                Severity.WARNING,
                f"token '{token.name}'",
                f"it expires at {token.expires_at:%Y-%m-%d %H:%M} UTC",
                "create another one and give it to the client: 'tenant-mirror tokens create'",
            )


def _build(
    code: DiagnosisCode, severity: Severity, subject: str, sentence: str, remedy: str
) -> Diagnosis:
    return Diagnosis(
        code=code, severity=severity, subject=subject, sentence=sentence, remedy=remedy
    )
