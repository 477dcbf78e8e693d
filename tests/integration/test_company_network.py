"""Nango and receivers behind a company's own authority, and behind its proxy."""

import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.sink import SinkKind
from sandbox.tenant import Nango, Server
from tests.support.connect_proxy import ConnectProxy, run_connect_proxy
from tests.support.hostile_server import BEHAVIOURS, hold_full_port, run_hostile_server
from tests.support.tls import Authority, TlsProxy
from tests.support.webhook_receiver import WebhookReceiver, run_receiver
from tests.unit.test_nango_client import everything_said
from worker.core.errors import ConfigurationError, MirrorError, Outage, RetryLater
from worker.core.net.tls import build_ssl_context
from worker.core.net.transport import TransportConfig
from worker.core.net.url import proxy_from_setting
from worker.core.secret import Certificates, SecretStr
from worker.core.settings import Settings, load_settings
from worker.delivery.senders.open_sender import open_sender
from worker.delivery.senders.sender import Envelope
from worker.delivery.store.sinks import Sink
from worker.graph.throttle import GraphThrottle
from worker.nango.client import NangoClient
from worker.nango.limiter import RateLimiter
from worker.wiring import open_nango

Env = pytest.MonkeyPatch
SLACK = 3.0
"""Seconds that a busy machine may add."""
LOGIN = "svc-mirror:pa%73s word@/:hunter2"
IN_URL = "svc-mirror:pa%2573s%20word%40%2F%3Ahunter2"
NAME = "nango.contoso.example"
HOOKS = "hooks.contoso.example"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("company"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, of the same name."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def behind(company: Authority, nango_server: Server) -> Iterator[TlsProxy]:
    """Nango, served as localhost and as ``NAME``."""
    port = int(nango_server.url.rpartition(":")[2])
    with TlsProxy(company.issue("localhost"), port) as front:
        yield front


@pytest.fixture(scope="module")
def inside(company: Authority, nango_server: Server) -> Iterator[TlsProxy]:
    """The same Nango under a name that only the proxy knows."""
    port = int(nango_server.url.rpartition(":")[2])
    with TlsProxy(company.issue(NAME), port) as front:
        yield front


@pytest.fixture
def proxy(inside: TlsProxy) -> Iterator[ConnectProxy]:
    with run_connect_proxy({NAME: inside.port}) as made:
        yield made


Ask = Callable[..., int]


@pytest.fixture
def ask(nango: Nango) -> Iterator[Ask]:
    """Ask Nango, as the settings say, for one of its connections; the status."""
    opened: list[NangoClient] = []

    def once(host: str, **settings: object) -> int:
        given = {"call_seconds": 3.0, "retry_seconds": 0.2, **settings}
        client = open_nango(
            load_settings(nango_host=host, nango_secret_key=nango.key, redis_url=None, **given)
        )
        opened.append(client)
        return client.get("/connections?limit=1").status

    yield once
    for one in opened:
        one.close()


@pytest.fixture(autouse=True)
def trust_public_authorities(monkeypatch: Env) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def through(proxy: ConnectProxy, login: str = "") -> str:
    return proxy.url.replace("http://", f"http://{login}@") if login else proxy.url


# ---- authorities


def in_a_file(company: Authority, folder: Path, env: Env) -> None:
    env.setenv("SSL_CERT_FILE", str(company.path))


def in_a_folder(company: Authority, folder: Path, env: Env) -> None:
    """As c_rehash names the files of a folder."""
    command = ["openssl", "x509", "-subject_hash", "-noout", "-in", str(company.path)]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    shutil.copy(company.path, folder / f"{name}.0")
    env.setenv("SSL_CERT_DIR", f"/nowhere:{folder}")


def in_our_setting(company: Authority, folder: Path, env: Env) -> None:
    """With what such files have around their certificates."""
    path = folder / "ca.pem"
    path.write_text(f"# Größe: Contoso\n{company.path.read_text()}\n# end\n", encoding="utf-8")
    env.setenv("TENANT_MIRROR_CA_FILE", str(path))


def in_its_value(company: Authority, folder: Path, env: Env) -> None:
    env.setenv("TENANT_MIRROR_CA", company.path.read_text())


PLACES = [in_a_file, in_a_folder, in_our_setting, in_its_value]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_nango_behind_a_companys_own_authority_is_reached(
    ask: Ask,
    behind: TlsProxy,
    *,
    company: Authority,
    tmp_path: Path,
    monkeypatch: Env,
    place: Callable[[Authority, Path, Env], None],
) -> None:
    place(company, tmp_path, monkeypatch)
    assert ask(f"https://localhost:{behind.port}") == 200


def test_an_authority_that_is_not_known_is_refused_with_what_to_set(
    ask: Ask, behind: TlsProxy, nango: Nango
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"certificate verify failed.*TENANT_MIRROR_CA_FILE"
    ) as told:
        ask(f"https://localhost:{behind.port}")
    assert "NANGO" in told.value.message.upper()
    assert nango.calls.total == 0


def test_an_authority_of_the_same_name_is_refused(
    ask: Ask, behind: TlsProxy, nango: Nango, stranger: Authority, monkeypatch: Env
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.path))
    with pytest.raises(
        ConfigurationError, match=r"TENANT_MIRROR_CA_FILE \(SSL_CERT_FILE .* replace"
    ):
        ask(f"https://localhost:{behind.port}")
    assert nango.calls.total == 0


def test_a_certificate_for_another_name_is_refused_and_no_authority_is_asked_for(
    ask: Ask, inside: TlsProxy, nango: Nango, company: Authority, monkeypatch: Env
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(company.path))
    with pytest.raises(ConfigurationError, match=r"certificate verify failed.*address") as told:
        ask(f"https://localhost:{inside.port}")
    assert "TENANT_MIRROR_CA" not in told.value.message
    assert nango.calls.total == 0


def test_own_authorities_add_to_those_that_are_trusted_otherwise(
    company: Authority, stranger: Authority, monkeypatch: Env
) -> None:
    public = build_ssl_context().cert_store_stats()["x509_ca"]
    own = Certificates.from_text(company.path.read_text())
    assert public > 50
    assert build_ssl_context(own).cert_store_stats()["x509_ca"] == public + 1
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.path))
    assert build_ssl_context().cert_store_stats()["x509_ca"] == 1
    assert build_ssl_context(own).cert_store_stats()["x509_ca"] == 2
    for context in (build_ssl_context(), build_ssl_context(own)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("SSL_CERT_FILE", None, "SSL_CERT_FILE: cannot read"),
        ("SSL_CERT_FILE", "no certificate", "SSL_CERT_FILE: .* holds no certificates"),
        ("SSL_CERT_DIR", None, "SSL_CERT_DIR: .* is not a directory"),
        ("TENANT_MIRROR_CA_FILE", None, "TENANT_MIRROR_CA_FILE: cannot read"),
        ("TENANT_MIRROR_CA_FILE", "no certificate", "TENANT_MIRROR_CA: must hold certificates"),
        (
            "TENANT_MIRROR_CA_FILE",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "TENANT_MIRROR_CA holds a certificate that cannot be read",
        ),
    ],
)
def test_certificates_that_cannot_be_read_halt_with_the_name_of_the_variable(
    ask: Ask, tmp_path: Path, monkeypatch: Env, *, name: str, content: str | None, told: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(name, str(path))
    with pytest.raises(ConfigurationError, match=told):
        ask("https://localhost:9")


# ---- Nango through a proxy


@pytest.mark.parametrize("login", ["", IN_URL])
def test_nango_is_reached_through_a_proxy_that_reads_nothing(
    ask: Ask, proxy: ConnectProxy, nango: Nango, *, company: Authority, monkeypatch: Env, login: str
) -> None:
    monkeypatch.setenv("TENANT_MIRROR_CA_FILE", str(company.path))
    monkeypatch.setenv("TENANT_MIRROR_NANGO_PROXY", through(proxy, login))
    proxy.login = LOGIN if login else None
    assert ask(f"https://{NAME}") == 200
    assert proxy.targets == [f"{NAME}:443"]
    assert proxy.logins == [LOGIN if login else None]
    assert nango.key.encode() not in proxy.received
    assert nango.calls.total == 1


def test_the_name_must_be_that_of_the_certificate_through_a_proxy_too(
    ask: Ask, proxy: ConnectProxy, inside: TlsProxy, company: Authority, nango: Nango
) -> None:
    proxy.hosts = {"other.contoso.example": inside.port}
    own = company.path.read_text()
    with pytest.raises(ConfigurationError, match="certificate verify failed"):
        ask("https://other.contoso.example", ca=own, nango_proxy=proxy.url)
    assert nango.calls.total == 0


REFUSED = [
    ({"login": "a:b"}, "asks for a user and password .HTTP 407.; put them into"),
    ({"status": 403}, rf"refuses connections to {NAME}:443 .HTTP 403."),
    ({"status": 405}, "refuses connections"),
    ({"raw_answer": b"220 mail.example ESMTP\r\n"}, "does not respond like an HTTP proxy"),
    ({"raw_answer": b"HTTP/1.1 200 OK\r\n\r\n<html>"}, "does not respond like an HTTP proxy"),
    ({"raw_answer": b"HTTP/1.1 200 OK\r\n" + b"X-Long: a\r\n" * 4000}, "does not respond like"),
]
PASSING = [
    ({"status": 502}, rf"cannot reach {NAME}:443 .HTTP 502."),
    ({"status": 503}, "cannot reach"),
    ({"hosts": {}}, "cannot reach"),
    ({"raw_answer": b""}, "closed the connection without a response"),
]


@pytest.mark.parametrize(("how", "told"), REFUSED)
def test_a_proxy_that_does_not_do_it_is_a_wrong_setting(
    ask: Ask, proxy: ConnectProxy, how: dict[str, object], told: str
) -> None:
    vars(proxy).update(how)
    with pytest.raises(ConfigurationError, match=told) as caught:
        ask(f"https://{NAME}", nango_proxy=proxy.url)
    assert "TENANT_MIRROR_NANGO_PROXY" in caught.value.message
    assert f"the proxy 127.0.0.1:{proxy.port}" in caught.value.message


@pytest.mark.parametrize(("how", "told"), PASSING)
def test_a_proxy_that_cannot_do_it_now_is_a_passing_fault(
    ask: Ask, proxy: ConnectProxy, how: dict[str, object], told: str
) -> None:
    vars(proxy).update(how)
    with pytest.raises(RetryLater, match=told):
        ask(f"https://{NAME}", nango_proxy=proxy.url)


def test_a_wrong_password_of_the_proxy_is_never_shown(ask: Ask, proxy: ConnectProxy) -> None:
    proxy.login = "somebody:else"
    with pytest.raises(ConfigurationError, match="rejects the user and password") as caught:
        ask(f"https://{NAME}", nango_proxy=through(proxy, IN_URL))
    assert proxy.logins[0] == LOGIN
    said = everything_said(caught.value)
    for piece in ("hunter2", "pa%73s", "word@", "svc-mirror"):
        assert piece not in said


def test_a_proxy_that_is_away_is_named(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = f"http://{IN_URL}@127.0.0.1:{port}"
    with pytest.raises(
        RetryLater, match=rf"the proxy 127.0.0.1:{port} cannot be reached"
    ) as caught:
        ask(f"https://{NAME}", nango_proxy=address)
    assert "TENANT_MIRROR_NANGO_PROXY" in caught.value.message
    assert "hunter2" not in everything_said(caught.value)
    with pytest.raises(RetryLater, match=r"the proxy proxy.invalid:3128 .*has no address"):
        ask(f"https://{NAME}", nango_proxy="http://proxy.invalid:3128")


def test_a_proxy_that_begins_to_refuse_a_nango_that_has_worked_is_an_outage(
    proxy: ConnectProxy, company: Authority, nango: Nango
) -> None:
    way = TransportConfig(
        build_ssl_context(Certificates.from_text(company.path.read_text())),
        proxy_from_setting(SecretStr(proxy.url), "TENANT_MIRROR_NANGO_PROXY"),
    )
    limiter, host = RateLimiter(), f"https://{NAME}"
    worked = NangoClient(host, nango.key, throttle=GraphThrottle(), limiter=limiter, way=way)
    assert worked.get("/connections?limit=1").status == 200
    proxy.login = "a:b"
    later = NangoClient(host, nango.key, throttle=GraphThrottle(), limiter=limiter, way=way)
    with pytest.raises(Outage, match="HTTP 407"):
        later.get("/connections?limit=1")
    for one in (worked, later):
        one.close()


@pytest.mark.parametrize("manner", BEHAVIOURS)
def test_a_call_ends_at_its_deadline_whatever_the_proxy_does(ask: Ask, manner: str) -> None:
    began = time.monotonic()
    with run_hostile_server(manner) as server, pytest.raises(MirrorError) as caught:
        ask(f"https://{NAME}", nango_proxy=server.url, call_seconds=1.0)
    assert time.monotonic() - began < 1 + SLACK
    assert isinstance(caught.value, RetryLater | ConfigurationError)
    assert re.search("the proxy|SSL", caught.value.message)


def test_a_host_that_says_nothing_behind_the_proxy_is_told_with_the_proxy(ask: Ask) -> None:
    with run_hostile_server("silence") as server, run_connect_proxy({NAME: server.port}) as between:
        with pytest.raises(
            RetryLater, match=rf"the time is over, through the proxy .*:{between.port}"
        ):
            ask(f"https://{NAME}", nango_proxy=between.url, call_seconds=1.0)
        assert between.targets == [f"{NAME}:443"]


def test_a_proxy_that_takes_no_connection_ends_at_the_deadline(ask: Ask) -> None:
    began = time.monotonic()
    with hold_full_port() as port, pytest.raises(RetryLater, match="did not answer in time"):
        ask(f"https://{NAME}", nango_proxy=f"http://127.0.0.1:{port}", call_seconds=1.0)
    assert time.monotonic() - began < 1 + SLACK


@pytest.mark.parametrize("manner", ["silence", "a body that trickles", "headers without end"])
def test_a_host_behind_the_proxy_holds_no_call_either(ask: Ask, manner: str) -> None:
    began = time.monotonic()
    with (
        run_hostile_server(manner) as server,
        run_connect_proxy({"slow.example": server.port}) as proxy,
    ):
        for scheme in ("http", "https"):
            with pytest.raises(RetryLater):
                ask(f"{scheme}://slow.example", nango_proxy=proxy.url, call_seconds=1.0)
    assert time.monotonic() - began < 2 * (1 + SLACK)


# ---- receivers


@pytest.fixture(scope="module")
def served(company: Authority) -> Iterator[WebhookReceiver]:
    """A receiver at localhost, with a certificate of the company."""
    with run_receiver(company.issue("localhost").build_context()) as made:
        yield made


@pytest.fixture(scope="module")
def hooks(company: Authority) -> Iterator[WebhookReceiver]:
    """A receiver under a name that only the proxy knows."""
    with run_receiver(company.issue(HOOKS).build_context()) as made:
        yield made


@pytest.fixture
def exit_proxy(hooks: WebhookReceiver) -> Iterator[ConnectProxy]:
    with run_connect_proxy({HOOKS: hooks.port}) as made:
        yield made


def post(receiver: WebhookReceiver, settings: Settings, **given: object) -> None:
    """Deliver one event to a stored sink."""
    receiver.requests.clear()
    given = {"url": f"https://localhost:{receiver.port}/in", "timeout": 2, **given}
    sink = Sink(1, "crm", SinkKind.WEBHOOK, 1, settings=given, secrets={"keys": [receiver.secret]})
    target = open_sender(sink, settings)
    try:
        target.send([Envelope(b'{"n":1}', "event-1", 1, 1)])
    finally:
        target.close()


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_receiver_behind_a_companys_own_authority_is_reached(
    served: WebhookReceiver,
    company: Authority,
    tmp_path: Path,
    monkeypatch: Env,
    place: Callable[[Authority, Path, Env], None],
) -> None:
    place(company, tmp_path, monkeypatch)
    post(served, load_settings(), allow_private=True)
    assert served.sequences == [1]


def test_a_receiver_of_an_unknown_authority_gets_nothing_and_it_is_said_what_to_set(
    served: WebhookReceiver,
) -> None:
    with pytest.raises(RetryLater, match=r"certificate verify failed.*TENANT_MIRROR_CA_FILE"):
        post(served, load_settings(), allow_private=True)
    assert served.requests == []


def proxied(proxy: ConnectProxy, company: Authority, **more: object) -> Settings:
    return load_settings(ca=company.path.read_text(), webhook_proxy=through(proxy, IN_URL), **more)


def test_a_proxy_is_asked_for_the_address_that_was_judged(
    served: WebhookReceiver, exit_proxy: ConnectProxy, company: Authority
) -> None:
    exit_proxy.login = LOGIN
    post(served, proxied(exit_proxy, company), allow_private=True)
    assert served.sequences == [1]
    assert exit_proxy.targets[-1] == f"127.0.0.1:{served.port}"
    assert served.requests[0].headers["host"] == f"localhost:{served.port}"
    assert b"whsec" not in exit_proxy.received
    assert served.secret.encode() not in exit_proxy.received


INSIDE = ["localhost", "[::1]", "2130706433", "0x7f.1", "hooks.localhost"]
METADATA = ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]", "2852039166"]


@pytest.mark.parametrize("host", [*INSIDE, METADATA[0]])
@pytest.mark.parametrize("resolves", ["no", "yes"])
def test_no_proxy_is_asked_for_an_address_inside(
    served: WebhookReceiver, exit_proxy: ConnectProxy, company: Authority, host: str, resolves: str
) -> None:
    settings = proxied(exit_proxy, company, webhook_proxy_resolves=resolves)
    with pytest.raises(RetryLater, match=r"allow_private|never sent there|no address"):
        post(served, settings, url=f"https://{host}:{served.port}/in")
    assert exit_proxy.targets == []
    assert served.requests == []


def test_no_setting_leads_a_proxy_to_metadata(
    served: WebhookReceiver, exit_proxy: ConnectProxy, company: Authority
) -> None:
    settings = proxied(exit_proxy, company, webhook_proxy_resolves="yes")
    for host in METADATA:
        with pytest.raises(RetryLater, match="never sent there"):
            post(served, settings, url=f"https://{host}/in", allow_private=True)
    assert exit_proxy.targets == []


def test_a_name_that_only_the_proxy_knows_needs_the_setting_for_it(
    hooks: WebhookReceiver, exit_proxy: ConnectProxy, company: Authority
) -> None:
    with pytest.raises(RetryLater, match="TENANT_MIRROR_WEBHOOK_PROXY_RESOLVES to yes"):
        post(hooks, proxied(exit_proxy, company), url=f"https://{HOOKS}/in")
    assert exit_proxy.targets == []
    settings = proxied(exit_proxy, company, webhook_proxy_resolves="yes")
    post(hooks, settings, url=f"https://{HOOKS}/in")
    assert hooks.sequences == [1]
    assert exit_proxy.targets == [f"{HOOKS}:443"]


def test_a_sink_may_go_past_the_proxy(
    served: WebhookReceiver, exit_proxy: ConnectProxy, company: Authority
) -> None:
    post(served, proxied(exit_proxy, company), allow_private=True, direct=True)
    assert served.sequences == [1]
    assert exit_proxy.targets == []


@pytest.mark.parametrize(("how", "told"), [*REFUSED[1:], *PASSING])
def test_a_proxy_that_does_not_reach_a_receiver_is_named_and_the_sink_waits(
    hooks: WebhookReceiver,
    exit_proxy: ConnectProxy,
    company: Authority,
    how: dict[str, object],
    told: str,
) -> None:
    vars(exit_proxy).update(how)
    settings = proxied(exit_proxy, company, webhook_proxy_resolves="yes")
    with pytest.raises(RetryLater, match=told.replace(NAME, HOOKS)) as caught:
        post(hooks, settings, url=f"https://{HOOKS}/in")
    assert type(caught.value) is RetryLater, "no event is at fault"
    assert f"the proxy 127.0.0.1:{exit_proxy.port}" in caught.value.message
    said = everything_said(caught.value)
    for piece in ("hunter2", "pa%73s", "word@", "svc-mirror"):
        assert piece not in said


@pytest.mark.parametrize("manner", ["silence", "100 without end", "headers without end"])
def test_a_delivery_ends_at_its_deadline_whatever_the_proxy_does(
    hooks: WebhookReceiver, company: Authority, manner: str
) -> None:
    began = time.monotonic()
    with run_hostile_server(manner) as server:
        settings = load_settings(webhook_proxy=server.url, webhook_proxy_resolves="yes")
        with pytest.raises(RetryLater, match="the proxy"):
            post(hooks, settings, url=f"https://{HOOKS}/in", timeout=1)
    assert time.monotonic() - began < 1 + SLACK


def test_what_waits_for_a_proxy_ends_when_it_is_cut_off(hooks: WebhookReceiver) -> None:
    with run_hostile_server("silence") as server:
        settings = load_settings(webhook_proxy=server.url, webhook_proxy_resolves="yes")
        given = {"url": f"https://{HOOKS}/in", "timeout": 60}
        secrets = {"keys": [hooks.secret]}
        target = open_sender(
            Sink(1, "crm", SinkKind.WEBHOOK, 1, settings=given, secrets=secrets), settings
        )
        timer = threading.Timer(0.5, lambda: target.set_deadline(time.monotonic()))
        timer.start()
        began = time.monotonic()
        with pytest.raises(RetryLater):
            target.send([Envelope(b"{}", "event-1", 1, 1)])
        assert time.monotonic() - began < 0.5 + SLACK
        timer.join()
        target.close()


# ---- settings


@pytest.mark.parametrize(
    "value",
    [
        "proxy.example:3128",
        "https://proxy.example:3128",
        "socks5://hunter2@proxy.example:1080",
        "http://proxy.example",
        "http://:3128",
        "http://user:hunter2@",
        "http://proxy.example:3128/hunter2",
        "http://proxy.example:3128?hunter2",
        "http://user:hunter2/x@proxy.example:3128",
        "http://user:hunter2#x@proxy.example:3128",
        "http://user:12?hunter2@proxy.example:3128",
        "http://proxy.example:99999",
        "http://pro xy.example:3128",
    ],
)
@pytest.mark.parametrize("name", ["TENANT_MIRROR_NANGO_PROXY", "TENANT_MIRROR_WEBHOOK_PROXY"])
def test_a_bad_proxy_is_named_and_not_shown(monkeypatch: Env, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"^{name}: ") as told:
        load_settings()
    assert "hunter2" not in everything_said(told.value)


def test_a_proxys_password_is_not_in_the_text_of_the_settings() -> None:
    settings = load_settings(nango_proxy="http://u:hunter2@proxy.example:3128")
    assert "hunter2" not in f"{settings!r} {settings}"


WARN = """
import sys
from worker.core.log import configure_logging
from worker.core.settings import load_settings
from worker.wiring import open_nango
configure_logging("WARNING", "console")
for host in sys.argv[1:]:
    open_nango(load_settings(nango_secret_key="hunter2", nango_host=host)).close()
"""
CLEAR = ["http://nango-server:3003", "http://10.0.0.7:3003/base", "http://[fd00::7]:3003"]
COVERED = ["https://api.nango.dev", "http://localhost:3", "http://127.0.0.1:3", "http://[::1]:3"]


def test_a_key_that_would_travel_in_the_clear_is_warned_of() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WARN, *CLEAR, *COVERED],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr.count("unencrypted connection to Nango") == len(CLEAR)
    assert all(host in done.stderr for host in CLEAR)
    assert not any(host in done.stderr for host in COVERED)
    assert "hunter2" not in done.stderr + done.stdout
