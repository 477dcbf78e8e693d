"""Examines the service and its surroundings, cheaply: at most three calls to Nango."""

import shutil
import tempfile
import time
from dataclasses import dataclass, field

from worker.conditions.condition import Condition
from worker.core.settings import Settings
from worker.nango.client import ConnectionRef, NangoClient
from worker.overview.doctor.diagnosis import Diagnosis
from worker.overview.doctor.nango_checks import examine_nango
from worker.overview.doctor.redis_facts import load_redis_facts
from worker.overview.doctor.server_checks import (
    check_clocks,
    check_database,
    check_disk,
    check_readers,
    check_redis,
    check_tokens,
)
from worker.overview.fleet import Fleet, FleetConnection, load_fleet
from worker.store.engine import Database
from worker.store.readers import load_readers
from worker.store.service.server_facts import DatabaseServerFacts, load_server_facts
from worker.store.service.tokens import list_tokens


@dataclass
class Examination:
    """What was found, and what is in order."""

    fleet: Fleet
    diagnoses: list[Diagnosis] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    calls: int = 0
    """Calls that were sent to Nango."""

    @property
    def conditions(self) -> list[Condition]:
        """The conditions of the service, then those of its connections."""
        own = [one for connection in self.fleet.in_use for one in connection.conditions]
        return [*self.fleet.conditions, *own]

    @property
    def needs_attention(self) -> bool:
        return self.fleet.needs_attention or any(
            one.severity.needs_attention for one in self.diagnoses
        )


def examine(
    database: Database,
    settings: Settings,
    nango: NangoClient | None,
    *,
    connection_id: int | None = None,
) -> Examination:
    """Examine everything, or the servers and one connection; ``nango`` is None without a key.

    Raises ServerUnavailable if the database cannot be read.
    """
    with database.open_transaction() as db:
        server, tokens, readers = load_server_facts(db), list_tokens(db), load_readers(db)
    here, began = time.time(), time.monotonic()
    ids = None if connection_id is None else [connection_id]
    found = Examination(load_fleet(database, settings, ids=ids))
    found.checked.append(f"Postgres {server.version} at {database.server}")
    found.diagnoses += check_database(server)
    found.diagnoses += check_readers(readers)
    told = load_redis_facts(settings)
    if told is not None and told.problem is None:
        found.checked.append(f"Redis {told.info.get('redis_version', 'of unknown version')}")
    found.diagnoses += check_redis(told)
    offsets: dict[str, float | None] = {"this host": here - server.now}
    if nango is not None:
        offsets["Nango"] = _examine_nango(nango, found, server, began)
    found.diagnoses += check_clocks(offsets)
    place = tempfile.gettempdir()
    found.diagnoses += check_disk(shutil.disk_usage(place).free, place)
    found.diagnoses += check_tokens(tokens, found.fleet.now)
    found.diagnoses.sort(key=lambda one: -one.severity.rank)
    return found


def _examine_nango(
    nango: NangoClient, found: Examination, server: DatabaseServerFacts, began: float
) -> float | None:
    """Check Nango, and return by how many seconds its clock is ahead of Postgres's.

    ``began`` is when Postgres's clock was read.
    """
    told = examine_nango(nango, _choose_example(found.fleet))
    found.calls = nango.calls
    found.diagnoses += told.diagnoses
    found.checked += told.checked
    if told.clock is None:
        return None
    # Nango's Date is in whole seconds, of some moment since then.
    return told.clock + 0.5 - (server.now + (time.monotonic() - began) / 2)


def _choose_example(fleet: Fleet) -> ConnectionRef | None:
    """Return a connection to check scopes with, one without a problem if there is any."""
    usable = [one for one in fleet.in_use if one.facts.status in ("active", "broken")]
    best = min(usable, key=_count_problems, default=None)
    if best is None:
        return None
    return ConnectionRef(best.facts.nango_id, best.facts.integration)


def _count_problems(one: FleetConnection) -> int:
    return sum(condition.severity.needs_attention for condition in one.conditions)
