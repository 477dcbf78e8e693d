"""What ``doctor`` can find that no sync learns: a closed list of codes."""

from enum import StrEnum
from typing import Final

import msgspec

from worker.conditions.condition import Severity


class DiagnosisCode(StrEnum):
    """What can be wrong. Each code has a section in ``docs/operations.md``."""

    DATABASE_SETUP = "database_setup"
    """Its version or encoding."""
    DATABASE_READ_ONLY = "database_read_only"
    DATABASE_RIGHTS = "database_rights"
    DATABASE_DURABILITY = "database_durability"
    ANALYTICS_VIEWS = "analytics_views"
    READER_ROLES = "reader_roles"
    POOLER = "pooler"
    REDIS_SETUP = "redis_setup"
    """Its version, or that it is missing."""
    REDIS_EVICTION = "redis_eviction"
    REDIS_PERSISTENCE = "redis_persistence"
    REDIS_READ_ONLY = "redis_read_only"
    REDIS_RIGHTS = "redis_rights"
    NANGO_KEY = "nango_key"
    NANGO_SCOPE = "nango_scope"
    NANGO_UNREACHABLE = "nango_unreachable"
    CLOCK_SKEW = "clock_skew"
    DISK_LOW = "disk_low"
    TOKEN_EXPIRING = "token_expiring"  # noqa: S105 - no password

    @property
    def anchor(self) -> str:
        return f"docs/operations.md#doctor-{self.value}"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with the service's surroundings, and what to do."""

    code: DiagnosisCode
    severity: Severity
    subject: str
    sentence: str
    remedy: str

    @property
    def anchor(self) -> str:
        return self.code.anchor

    def to_json(self) -> dict[str, object]:
        """Return every field for programs."""
        return {**msgspec.structs.asdict(self), "anchor": self.anchor}


MAX_CLOCK_SKEW: Final = 5.0
"""Seconds by which two clocks may differ."""
MIN_DISK_BYTES: Final = 1024**3
TOKEN_DAYS: Final = 14
"""Days before the end of a token from which it is reported."""
