"""What a process needs to sync: database, Nango client and settings."""

from dataclasses import dataclass

from worker.core.settings import Settings
from worker.nango.client import NangoClient
from worker.store.engine import Database


@dataclass(frozen=True)
class Runtime:
    """What a process has to sync with."""

    database: Database
    nango: NangoClient
    settings: Settings
