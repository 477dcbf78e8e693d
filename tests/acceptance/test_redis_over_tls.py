"""The whole service with Redis behind TLS: broker, budgets and a stream of events."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from models.sink import SinkKind, SinkStart
from sandbox.servers import Servers
from sandbox.tenant import Nango, Tenant
from tests.acceptance.conftest import MakeService
from tests.support.mirror import scalar
from tests.support.service import assert_survived, create_and_delete, until, until_exact
from tests.support.tls import Authority, TlsProxy
from worker.events.sink_settings import settings_of
from worker.nango.ledger import PREFIX
from worker.store import sink_admin
from worker.store.engine import Database

STREAM = "directory"


@pytest.mark.timeout(360)
def test_a_service_whose_redis_is_behind_tls_mirrors_and_tells_of_it(
    make_service: MakeService, database: Database, nango: Nango, servers: Servers, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    parts = urlsplit(servers.redis_url)
    assert parts.port is not None
    tenant = Tenant(seed=65, users=100, groups=5, sites=5)
    nango.add_connection("contoso", tenant)
    settings = settings_of(SinkKind.REDIS_STREAM, {"stream": STREAM})
    with database.begin() as connection:
        new = sink_admin.NewSink(STREAM, SinkKind.REDIS_STREAM, settings, start=SinkStart.OLDEST)
        sink_admin.add(connection, new, None)
    with (
        TlsProxy(authority.certificate("localhost"), parts.port) as proxy,
        redis.Redis.from_url(servers.redis_url) as valkey,
    ):
        login = f":{parts.password}@localhost:{proxy.port}/0"
        service = make_service(REDIS_URL=f"rediss://{login}?ssl_ca_certs={authority.path}")
        service.start_all()
        service.start_relay()
        until_exact(database, tenant, what="the first load")
        create_and_delete(tenant)
        until_exact(database, tenant, what="the changes")
        events = "select count(*) from events.change_events"
        until(lambda: bool(valkey.xlen(STREAM) == scalar(database, events)), what="the events")
        assert valkey.keys(f"{PREFIX}*")
        assert_survived(service, database, tenant)
        service.close()
