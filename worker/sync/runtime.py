"""What a process needs to sync: database, Nango client and settings."""

from dataclasses import dataclass

from worker.core.settings import Settings
from worker.nango.client import NangoClient
from worker.store.engine import Database


@dataclass(frozen=True)
class Runtime:
    """The resources of one process."""

    database: Database
    nango: NangoClient
    settings: Settings
