"""A simulated Nango with Microsoft 365 tenants behind it, served over real HTTP.

    tenant = Tenant(seed=1, users=1000, groups=50)
    nango = Nango()
    nango.add_connection("contoso", tenant)
    with serve(nango) as server:
        ...  # GET {server.url}/proxy/v1.0/users with nango.key and the connection's headers
        tenant.update_user(user_id, jobTitle="Clerk")
        assert tenant.truth()["users"] == Truth(count, checksum)

The same seed and the same calls give the same directory, byte for byte. `docs/sandbox.md` says
what is simulated.
"""

from sandbox.tenant.calls import Calls, Logged
from sandbox.tenant.client import Client, Walked
from sandbox.tenant.connections import Connection
from sandbox.tenant.faults import Faults, Step
from sandbox.tenant.fields import RESOURCES
from sandbox.tenant.kinds import ALL_KINDS, BROKEN, EXPIRIES, TRANSIENT
from sandbox.tenant.knobs import Knobs
from sandbox.tenant.members import Member
from sandbox.tenant.nango import KEY, Nango
from sandbox.tenant.server import Server, serve
from sandbox.tenant.tenant import Tenant
from sandbox.tenant.truth import Row, Truth, checksum, row_of, truth_of
from sandbox.tenant.wire import Request, Response

__all__ = [
    "ALL_KINDS",
    "BROKEN",
    "EXPIRIES",
    "KEY",
    "RESOURCES",
    "TRANSIENT",
    "Calls",
    "Client",
    "Connection",
    "Faults",
    "Knobs",
    "Logged",
    "Member",
    "Nango",
    "Request",
    "Response",
    "Row",
    "Server",
    "Step",
    "Tenant",
    "Truth",
    "Walked",
    "checksum",
    "row_of",
    "serve",
    "truth_of",
]
