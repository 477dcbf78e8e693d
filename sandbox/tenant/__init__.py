"""A simulated Nango with Microsoft 365 tenants behind it, served over real HTTP.

    tenant = Tenant(seed=1, users=1000, groups=50)
    nango = Nango()
    nango.add_connection("contoso", tenant)
    with serve(nango) as server:
        ...  # GET {server.url}/proxy/v1.0/users with nango.key and the connection's headers
        tenant.update_user(user_id, jobTitle="Clerk")
        assert tenant.truth()["users"] == Truth(count, checksum)

The same seed and the same calls give the same directory, byte for byte. `docs/sandbox.md`
describes what is simulated.
"""

from sandbox.tenant.client import Client, WalkResult
from sandbox.tenant.defaults import KEY
from sandbox.tenant.directory.clock import TenantClock
from sandbox.tenant.directory.kind_counts import KindCounts
from sandbox.tenant.directory.members import Member
from sandbox.tenant.directory.options import TenantOptions
from sandbox.tenant.directory.tenant import Tenant
from sandbox.tenant.directory.truth import (
    Truth,
    TruthRow,
    build_row,
    compute_checksum,
    truth_from_rows,
)
from sandbox.tenant.faults.fault_kinds import ALL_KINDS, BROKEN, EXPIRIES, TRANSIENT
from sandbox.tenant.faults.injector import FaultInjector, FaultRule
from sandbox.tenant.http import Request, Response
from sandbox.tenant.nango.call_log import CallCounts, LoggedRequest
from sandbox.tenant.nango.connections import NangoConnection
from sandbox.tenant.nango.service import Nango
from sandbox.tenant.server import Server, serve
from sandbox.tenant.story import Story

__all__ = [
    "ALL_KINDS",
    "BROKEN",
    "EXPIRIES",
    "KEY",
    "TRANSIENT",
    "CallCounts",
    "Client",
    "FaultInjector",
    "FaultRule",
    "KindCounts",
    "LoggedRequest",
    "Member",
    "Nango",
    "NangoConnection",
    "Request",
    "Response",
    "Server",
    "Story",
    "Tenant",
    "TenantClock",
    "TenantOptions",
    "Truth",
    "TruthRow",
    "WalkResult",
    "build_row",
    "compute_checksum",
    "serve",
    "truth_from_rows",
]
