"""Judges facts about the servers. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from worker.conditions.condition import Severity
from worker.core.time_text import render_count
from worker.overview.doctor.diagnosis import (
    MAX_CLOCK_SKEW,
    MIN_DISK_BYTES,
    TOKEN_DAYS,
    Diagnosis,
    DiagnosisCode,
)
from worker.store.readers import Reader
from worker.store.service.server_facts import DatabaseServerFacts
from worker.store.service.tokens import ApiToken

MIN_POSTGRES: Final = 150000
MIN_REDIS: Final = (6, 2)
_SHOWN_VIEWS: Final = 5


@dataclass(frozen=True)
class RedisFacts:
    """What Redis says about itself, and whether a key could be written."""

    info: Mapping[str, object]
    problem: str | None = None
    """Why it cannot be used."""
    write_problem: str | None = None
    saves: bool | None = None
    """Whether it saves snapshots; None if its user may not ask for that."""

    @property
    def is_replica(self) -> bool:
        return self.info.get("role") == "slave"


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
    yield from _check_read_only(facts)
    yield from _check_rights(facts)
    yield from _check_durability(facts)
    yield from _check_views(facts)
    if facts.has_pooler:
        yield _build(
            DiagnosisCode.POOLER,
            Severity.INFO,
            subject,
            "a pooler shares its sessions, so settings are sent with each transaction",
            "nothing to do; migrations need a URL that leads to Postgres itself",
        )


def _check_read_only(facts: DatabaseServerFacts) -> Iterator[Diagnosis]:
    if facts.is_standby:
        sentence = "it is a standby, which accepts no writes"
        remedy = (
            "let DATABASE_URL lead to the primary, or add target_session_attrs=read-write to it"
        )
    elif facts.is_read_only:
        sentence = "its transactions are read-only, so nothing can be synced"
        remedy = (
            "find what sets default_transaction_read_only: 'alter role' or 'alter database ... "
            "reset default_transaction_read_only' ends it"
        )
    else:
        return
    code, severity = DiagnosisCode.DATABASE_READ_ONLY, Severity.CRITICAL
    yield _build(code, severity, "Postgres", sentence, remedy)


def _check_rights(facts: DatabaseServerFacts) -> Iterator[Diagnosis]:
    for number, lack in (
        (facts.unreadable_tables, "may not read {} of the mirror"),
        (facts.unwritable_tables, "may not write to {} of the mirror"),
        (facts.foreign_partitioned, "does not own {} with partitions, and cannot add partitions"),
        (facts.walled_tables, "is subject to row-level security of {}, and cannot copy into them"),
    ):
        if number:
            yield _build(
                DiagnosisCode.DATABASE_RIGHTS,
                Severity.ERROR,
                "Postgres",
                f"role {facts.role} {lack.format(render_count(number, 'table'))}",
                "run 'tenant-mirror migrate' as the role of the service, or make that role the "
                "owner of the tables",
            )


def _check_durability(facts: DatabaseServerFacts) -> Iterator[Diagnosis]:
    code = DiagnosisCode.DATABASE_DURABILITY
    if not facts.has_fsync:
        yield _build(
            code,
            Severity.ERROR,
            "Postgres",
            "fsync is off: if its host crashes, the database may be damaged, and rows and events "
            "that consumers already have may be lost",
            "set fsync to on in postgresql.conf and reload it: 'select pg_reload_conf()'",
        )
    elif not facts.waits_for_disk:
        yield _build(
            code,
            Severity.WARNING,
            "Postgres",
            f"synchronous_commit is off for role {facts.role}: if the server crashes, it may lose "
            "events that consumers already have",
            "set synchronous_commit to on for the server, the database and the role; after a crash "
            "run 'tenant-mirror recovered'",
        )


def _check_views(facts: DatabaseServerFacts) -> Iterator[Diagnosis]:
    if facts.missing_views:
        severity, shown = Severity.ERROR, ", ".join(facts.missing_views[:_SHOWN_VIEWS])
        more = len(facts.missing_views) - _SHOWN_VIEWS
        sentence = f"views for analysts are missing: {shown}" + (f", {more} more" * (more > 0))
    elif not facts.are_views_current:
        severity = Severity.WARNING
        sentence = "the views for analysts are not those of this release"
    else:
        return
    remedy = "run 'tenant-mirror migrate', which makes them as this release has them"
    yield _build(DiagnosisCode.ANALYTICS_VIEWS, severity, "Postgres", sentence, remedy)


def check_readers(readers: Sequence[Reader]) -> Iterator[Diagnosis]:
    """Yield the readers of the views that walls do not hold as somebody may believe."""
    for one in readers:
        for problem in one.list_problems():
            yield _build(
                DiagnosisCode.READER_ROLES,
                Severity.WARNING,
                f"role {one.name}",
                f"it {problem}",
                "revoke what it has too much, or let readers use another role: "
                "'tenant-mirror roles' lists them",
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
    yield from _check_eviction(facts)
    yield from _check_persistence(facts)
    if facts.is_replica:
        yield _build(
            DiagnosisCode.REDIS_READ_ONLY,
            Severity.CRITICAL,
            subject,
            "it is a replica, which accepts no writes",
            "let REDIS_URL lead to the primary",
        )
    elif facts.write_problem is not None:
        sentence, remedy = facts.write_problem, "correct the rights of its user, or free its memory"
        yield _build(DiagnosisCode.REDIS_RIGHTS, Severity.ERROR, subject, sentence, remedy)


def _check_eviction(facts: RedisFacts) -> Iterator[Diagnosis]:
    policy = facts.info.get("maxmemory_policy")
    if facts.info.get("maxmemory") and policy not in (None, "noeviction"):
        yield _build(
            DiagnosisCode.REDIS_EVICTION,
            Severity.WARNING,
            "Redis",
            f"it drops keys when its memory is full (maxmemory-policy {policy}), perhaps messages",
            "set maxmemory-policy to noeviction",
        )


def _check_persistence(facts: RedisFacts) -> Iterator[Diagnosis]:
    code = DiagnosisCode.REDIS_PERSISTENCE
    failing = [
        what
        for key, what in (("rdb_last_bgsave_status", "snapshot"), ("aof_last_write_status", "log"))
        if facts.info.get(key, "ok") != "ok"
    ]
    if failing:
        yield _build(
            code,
            Severity.ERROR,
            "Redis",
            f"it could not write its last {' and '.join(failing)} to disk, and may refuse writes",
            "free its disk, and read its own log",
        )
    if facts.saves is False and not facts.info.get("aof_enabled"):
        yield _build(
            code,
            Severity.INFO,
            "Redis",
            "it keeps nothing on disk: a restart loses the streams that sinks write to it, and "
            "messages, which ticks send again",
            "turn appendonly on if REDIS_URL holds the stream of a sink",
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
