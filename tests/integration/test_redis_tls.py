"""Redis by TLS: the same checks for the broker, the budgets and streams of events.

Each use is tried through a TLS server in front of a real Valkey. Whether it was served is asked of
Valkey itself, and a server whose certificate is refused must not have seen a byte of the password.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from sandbox.servers import Servers
from tests.support.tls import Authority, Certificate, TlsProxy
from worker.app import build_configuration
from worker.core.errors import ConfigurationError, MirrorError
from worker.core.settings import load_settings
from worker.delivery.senders.redis_stream import RedisStreamSender
from worker.delivery.senders.sender import Envelope
from worker.nango.kv_store import KEY_PREFIX, RedisStore

Use = Callable[[str], None]


def send_a_message(url: str) -> None:
    """As the service does it: after an interruption, the next tick sends what this one did not."""
    try:
        _send_once(url)
    except AttributeError as error:
        # After an interruption, kombu now and then uses the channel that it has just closed.
        if error.name != "client" or error.obj is not None:
            raise
        _send_once(url)


def _send_once(url: str) -> None:
    with Celery("by TLS", set_as_current=False) as application:
        application.config_from_object(build_configuration(load_settings(redis_url=url)))
        with application.connection_for_write() as connection:
            connection.connect()
            application.send_task("nothing", queue="manual", connection=connection)


def keep_a_budget(url: str) -> None:
    store = RedisStore(url)
    try:
        store.compare_and_swap("by-tls", None, b"1", 60)
    finally:
        store.close()


def deliver_an_event(url: str) -> None:
    stream = RedisStreamSender(url, "by-tls", 100)
    try:
        stream.send([Envelope(b"{}", "1", 1, 1)])
    finally:
        stream.close()


USES: dict[str, tuple[Use, str]] = {
    "broker": (send_a_message, "tenant-mirror:manual"),
    "budgets": (keep_a_budget, f"{KEY_PREFIX}by-tls"),
    "sink": (deliver_an_event, "by-tls"),
}
"""What uses Redis, and the key that it leaves there."""


class TlsEnvironment:
    """Valkey without keys, its password, and authorities."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.valkey = redis.Redis.from_url(servers.redis_url)
        arguments = self.valkey.connection_pool.connection_kwargs
        self.port: int = arguments["port"]
        self.password: str = arguments["password"]
        self.known = Authority(folder / "known")
        self.unknown = Authority(folder / "unknown")
        self.trusted: dict[str, object] = {"ssl_ca_certs": self.known.path}

    @contextmanager
    def proxy(
        self, certificate: Certificate, clients_from: Authority | None = None
    ) -> Iterator[TlsProxy]:
        with TlsProxy(certificate, self.port, clients_from) as proxy:
            yield proxy

    def url(
        self, proxy: TlsProxy, host: str = "localhost", options: Mapping[str, object] | None = None
    ) -> str:
        query = urlencode({name: str(value) for name, value in (options or {}).items()})
        return f"rediss://:{quote(self.password, safe='')}@{host}:{proxy.port}/0?{query}"

    def is_served(self, use: str, url: str) -> bool:
        act, key = USES[use]
        self.valkey.delete(key)
        try:
            act(url)
        except (MirrorError, OperationalError, redis.RedisError):
            assert not self.valkey.exists(key)
            return False
        return bool(self.valkey.exists(key))


@pytest.fixture(scope="module")
def environment(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TlsEnvironment]:
    made = TlsEnvironment(servers, tmp_path_factory.mktemp("authorities"))
    yield made
    made.valkey.flushall()
    made.valkey.close()


@pytest.fixture(scope="module")
def honest(environment: TlsEnvironment) -> Iterator[TlsProxy]:
    """For the name that it is reached by, from an authority that we know."""
    with environment.proxy(environment.known.issue("localhost")) as proxy:
        yield proxy


every_use = pytest.mark.parametrize("use", USES)


@every_use
def test_a_server_with_a_certificate_of_a_named_authority_is_used(
    environment: TlsEnvironment, honest: TlsProxy, use: str
) -> None:
    assert environment.is_served(use, environment.url(honest, options=environment.trusted))


@every_use
@pytest.mark.parametrize("names_an_authority", [False, True])
def test_a_server_of_an_unknown_authority_is_refused_and_gets_no_password(
    environment: TlsEnvironment, use: str, names_an_authority: bool
) -> None:
    options = environment.trusted if names_an_authority else {}
    with environment.proxy(environment.unknown.issue("localhost")) as impostor:
        assert not environment.is_served(use, environment.url(impostor, options=options))
    assert impostor.received == b""


@every_use
def test_a_server_with_the_certificate_of_another_host_is_refused_and_gets_no_password(
    environment: TlsEnvironment, use: str
) -> None:
    with environment.proxy(environment.known.issue("redis.example.com")) as impostor:
        url = environment.url(impostor, options=environment.trusted)
        assert not environment.is_served(use, url)
    assert impostor.received == b""


@every_use
def test_checks_are_only_left_out_where_the_url_asks_for_it(
    environment: TlsEnvironment, honest: TlsProxy, use: str
) -> None:
    assert environment.is_served(use, environment.url(honest, options={"ssl_cert_reqs": "none"}))
    any_host = {**environment.trusted, "ssl_check_hostname": "false"}
    assert environment.is_served(use, environment.url(honest, "127.0.0.1", any_host))


@every_use
def test_our_own_certificate_is_shown_where_the_url_names_one(
    environment: TlsEnvironment, use: str
) -> None:
    ours = environment.known.issue("tenant-mirror")
    certificate = environment.known.issue("localhost")
    with environment.proxy(certificate, environment.known) as proxy:
        shown = {**environment.trusted, "ssl_certfile": ours.path, "ssl_keyfile": ours.key}
        assert environment.is_served(use, environment.url(proxy, options=shown))
        assert not environment.is_served(use, environment.url(proxy, options=environment.trusted))


def test_a_refused_certificate_is_explained(environment: TlsEnvironment) -> None:
    with (
        environment.proxy(environment.unknown.issue("localhost")) as impostor,
        pytest.raises(ConfigurationError, match="certificate of Redis was rejected") as refused,
    ):
        deliver_an_event(environment.url(impostor))
    assert "self-signed" in str(refused.value) or "issuer" in str(refused.value)
    assert environment.password not in str(refused.value)


@pytest.mark.parametrize("use", [keep_a_budget, deliver_an_event])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_of_certificates_that_cannot_be_read_is_named(
    environment: TlsEnvironment, honest: TlsProxy, tmp_path: Path, use: Use, option: str
) -> None:
    options = {option: tmp_path / "file.pem"}
    with pytest.raises(ConfigurationError, match=str(options[option])):
        use(environment.url(honest, options=options))
    options[option].write_text("no certificate")
    with pytest.raises(ConfigurationError, match=str(options[option])):
        use(environment.url(honest, options=options))
