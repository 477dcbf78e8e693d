"""All tables, for migrations: importing this module fills the metadata."""

from models.api_token import api_tokens
from models.audit import audit
from models.base import metadata
from models.change_event import change_events
from models.closure import NESTED_EDGES, get_closure_table
from models.connection import connections
from models.counter import counters
from models.epoch import epochs
from models.erasure import erasures
from models.known_resource import known_resources
from models.lease import leases
from models.mirror import get_table
from models.operation import operation_targets, operations
from models.page_session import page_sessions, sign_in_links
from models.privilege import privileged_actions, privileged_permissions, privileged_roles
from models.product_name import product_names
from models.pseudonym_key import pseudonym_key
from models.quarantine import quarantine
from models.reader_connection import reader_connections
from models.resources import RESOURCES
from models.run import runs
from models.sample import SAMPLED, get_sample_table
from models.seen import candidates, removals, seen
from models.service_state import service_state
from models.sink import positions, sink_secrets, sinks
from models.stream import streams
from models.unresolved import unresolved
from models.worker import workers

MIRROR_TABLES = tuple(get_table(resource) for resource in RESOURCES.values())
CLOSURE_TABLES = tuple(get_closure_table(edge) for edge in NESTED_EDGES)
SAMPLE_TABLES = tuple(get_sample_table(resource) for resource in SAMPLED)

__all__ = [
    "CLOSURE_TABLES",
    "MIRROR_TABLES",
    "SAMPLE_TABLES",
    "api_tokens",
    "audit",
    "candidates",
    "change_events",
    "connections",
    "counters",
    "epochs",
    "erasures",
    "known_resources",
    "leases",
    "metadata",
    "operation_targets",
    "operations",
    "page_sessions",
    "positions",
    "privileged_actions",
    "privileged_permissions",
    "privileged_roles",
    "product_names",
    "pseudonym_key",
    "quarantine",
    "reader_connections",
    "removals",
    "runs",
    "seen",
    "service_state",
    "sign_in_links",
    "sink_secrets",
    "sinks",
    "streams",
    "unresolved",
    "workers",
]
