"""What a probe asks for: what the settings and the customer want mirrored."""

from models.resources import STREAMED
from worker.core.settings import Settings
from worker.probe.scope import ProbeScope
from worker.store.state.connections import Connection
from worker.sync.policy import load_policy


def build_probe_scope(settings: Settings, connection: Connection) -> ProbeScope:
    """Return the scope of a connection, from its policy."""
    policy = load_policy(settings, connection.settings)
    dropped = {one.name: policy.list_dropped(one) for one in STREAMED}
    return ProbeScope(policy.off, {name: names for name, names in dropped.items() if names})
