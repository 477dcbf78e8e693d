"""Fragments of SQL that several statements about sinks share."""

from typing import Final

from worker.events.epochs import CURRENT_EPOCH

SINK_COLUMNS: Final = f"""
    s.id, s.name, s.kind, s.token, s.settings, s.resources, s.changes, s.connections, s.initial,
    s.start, s.failures, {CURRENT_EPOCH} as epoch,
    coalesce((select x.secrets from sync.sink_secrets x where x.sink_id = s.id), '{{}}'::jsonb)
        as secrets
"""
"""What makes a ``Sink``, from ``events.sinks s``."""

WANTS_CONNECTION: Final = "(s.connections is null or l.connection_id = any (s.connections))"
"""Whether a sink (``events.sinks s``) gets the events of a connection (``sync.leases l``)."""

ALLOWS_INITIAL: Final = (
    "c.settings -> 'tenant_mirror' -> 'initial_events' is distinct from 'false'::jsonb"
)
"""Whether a customer (``sync.connections c``) lets sinks have the events of first loads."""
