"""The simulation on a port, and a client of its first connection."""

from collections.abc import Iterator

import pytest

from sandbox.tenant import Client, Nango, Server, serve


@pytest.fixture
def server(nango: Nango) -> Iterator[Server]:
    with serve(nango) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server, "c1") as opened:
        yield opened
