"""The simulated Nango shared by the tests of one process."""

from sandbox.tenant import Nango, Server


def reset_nango(server: Server) -> Nango:
    """The shared Nango without connections, calls or faults of the tests before."""
    simulated = server.nango
    for connection in list(simulated.connections):
        simulated.remove_connection(connection.connection_id, connection.provider_config_key)
    simulated.before_response = simulated.before_graph = simulated.faults = None
    simulated.buffers_responses = False
    simulated.calls.reset()
    simulated.log.clear()
    return simulated
