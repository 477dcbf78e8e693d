"""What a supporter needs to know of one connection, without names or domains."""

import dataclasses
import hashlib
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

import msgspec

from worker.conditions.facts import ConnectionFacts
from worker.overview.fleet import Fleet, judge
from worker.page.connection import find_connection
from worker.page.page import Content, Visit
from worker.store.schema_version import load_revision_in
from worker.store.service.server_facts import load_server_facts
from worker.store.state.connection_operations import list_connection_operations
from worker.store.state.connections import get_connection
from worker.store.state.metrics import set_statement_timeout
from worker.store.state.overview import load_streams_overview
from worker.store.state.runs import list_latest_runs
from worker.sync.policy import load_policy

_RUNS: Final = 50
_OPERATIONS: Final = 20
_DIGEST_LENGTH: Final = 12
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")
_LETTERS: Final = re.compile(r"\w+")
_SHORTEST: Final = 4
"""Letters from which a part of a name can be recognised."""


def get_support_bundle(visit: Visit) -> Content:
    """Return a file about one connection. Raises NotFound."""
    fleet, one = find_connection(visit)
    facts = _remove_names(one.facts)
    with visit.context.database.open_transaction() as db:
        set_statement_timeout(db)
        settings = get_connection(db, facts.id).settings
        stored = {
            "streams": load_streams_overview(db, facts.id),
            "runs": [dict(row) for row in list_latest_runs(db, facts.id, _RUNS)],
            "operations": [
                {"id": it.id, "action": it.action, "state": it.target_state, "at": it.created_at}
                for it in list_connection_operations(db, facts.id, _OPERATIONS)
            ],
        }
        versions = _list_versions(load_server_facts(db).version, load_revision_in(db))
    policy = load_policy(visit.context.settings, settings)
    bundle = {
        "made_at": fleet.now,
        "versions": versions,
        **_describe(facts, fleet),
        **stored,
        "settings": dataclasses.asdict(policy),
        "service": [{"code": it.code, "severity": it.severity} for it in fleet.conditions],
    }
    body = msgspec.json.format(msgspec.json.encode(bundle), indent=2)
    return Content(body, "application/json", file_name=f"connection-{facts.id}.json")


def _remove_names(facts: ConnectionFacts) -> ConnectionFacts:
    """Return the facts without names, so that no sentence made of them has one.

    The tenant's id stays: support needs it to find the connection elsewhere. Nango's id is chosen
    by the product that connects, which may use a mail address, a domain or a name.
    """
    nango_id = facts.nango_id
    if not _PLAIN.fullmatch(nango_id) or _has_name(nango_id, facts):
        digest = hashlib.sha256(nango_id.encode("utf-8", "replace")).hexdigest()
        nango_id = f"sha256-{digest[:_DIGEST_LENGTH]}"
    return msgspec.structs.replace(
        facts, name=None, domains=None, nango_id=nango_id, paused_by=None, pause_reason=None
    )


def _has_name(nango_id: str, facts: ConnectionFacts) -> bool:
    """Return whether an id holds the organization's name or the beginning of one of its domains."""
    names = [one.partition(".")[0] for one in (facts.domains or "").split()]
    names += _LETTERS.findall(facts.name or "")
    return any(len(one) >= _SHORTEST and one.casefold() in nango_id.casefold() for one in names)


def _describe(facts: ConnectionFacts, fleet: Fleet) -> Mapping[str, Any]:
    (one,) = judge([facts], fleet.service).connections
    return {
        "facts": facts,
        "conditions": [condition.to_json() for condition in one.conditions],
        "held_up_by": None if one.cause is None else one.cause.code,
        "activity": one.activity,
    }


def _list_versions(postgres: str, schema: str | None) -> Mapping[str, str | None]:
    return {
        "tenant-mirror": version("tenant-mirror"),
        "python": platform.python_version(),
        "postgres": postgres,
        "schema": schema,
    }
