"""The whole service with Redis behind TLS: broker, budgets and a stream of events."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from models.sink import SinkKind, SinkStart
from sandbox.servers import Servers
from sandbox.tenant import Nango, Tenant
from tests.support.mirror import fetch_scalar
from tests.support.service import (
    MakeService,
    assert_survived,
    make_every_change,
    wait_until,
    wait_until_exact,
)
from tests.support.tls import Authority, TlsProxy
from worker.delivery.settings import build_stored_settings
from worker.delivery.store import admin
from worker.nango.kv_store import KEY_PREFIX
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
    settings = build_stored_settings(SinkKind.REDIS_STREAM, {"stream": STREAM})
    with database.open_transaction() as db:
        new = admin.NewSink(STREAM, SinkKind.REDIS_STREAM, settings, start=SinkStart.OLDEST)
        admin.add_sink(db, new, None)
    with (
        TlsProxy(authority.issue("localhost"), parts.port) as proxy,
        redis.Redis.from_url(servers.redis_url) as valkey,
    ):
        login = f":{parts.password}@localhost:{proxy.port}/0"
        service = make_service(REDIS_URL=f"rediss://{login}?ssl_ca_certs={authority.path}")
        service.start_all()
        service.start_relay()
        wait_until_exact(database, tenant, what="the first load")
        make_every_change(tenant)
        wait_until_exact(database, tenant, what="the changes")
        events = "select count(*) from events.change_events"
        wait_until(
            lambda: bool(valkey.xlen(STREAM) == fetch_scalar(database, events)), what="the events"
        )
        assert valkey.keys(f"{KEY_PREFIX}*")
        assert_survived(service, database, tenant)
        service.close()
