"""The simulation on a port, and a client of its first connection."""

from collections.abc import Iterator

import pytest

from sandbox.tenant import Client, Nango, Server, Tenant, serve
from tests.support.clients import ServeTenant


@pytest.fixture
def server(nango: Nango) -> Iterator[Server]:
    with serve(nango) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server, "c1") as opened:
        yield opened


@pytest.fixture(scope="module")
def serve_tenant() -> Iterator[ServeTenant]:
    """Returns the client of the tenant given, on one server for all tests of a file."""
    nango = Nango()
    connection = nango.add_connection("c1", Tenant())
    with serve(nango) as server, Client(server, "c1") as client:

        def change_tenant(tenant: Tenant) -> Client:
            connection.tenant = tenant
            return client

        yield change_tenant
