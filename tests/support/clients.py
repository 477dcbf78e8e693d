"""Clients of the simulated tenant."""

from collections.abc import Callable
from typing import TypeAlias

from sandbox.tenant import Client, Tenant

ServeTenant: TypeAlias = Callable[[Tenant], Client]
"""Serves a tenant from now on, and returns the client of it."""
