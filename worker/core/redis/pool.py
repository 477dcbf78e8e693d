"""Connection pools for Redis."""

import ssl
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.core.errors import ConfigurationError
from worker.core.redis.url import DEFAULT_PORT, RedisTls, RedisUrl, parse_redis_url


def build_redis_pool(
    url: str, *, retries: int, timeout: float, connect_timeout: float, max_connections: int
) -> redis.ConnectionPool:
    """Return a connection pool for a URL; nothing is opened yet.

    Raises ConfigurationError if the URL, or a certificate file in it, cannot be used.
    """
    parsed = parse_and_check_redis_url(url)
    return redis.ConnectionPool(
        **_build_pool_arguments(parsed, connect_timeout),
        max_connections=max_connections,
        socket_timeout=timeout,
        health_check_interval=25,
        retry=Retry(NoBackoff(), retries),
    )


def parse_and_check_redis_url(url: str) -> RedisUrl:
    """Raise ConfigurationError if the URL, or a certificate file in it, cannot be used."""
    try:
        parsed = parse_redis_url(url)
    except ValueError as error:
        raise ConfigurationError(f"the URL of Redis {error}") from None
    if parsed.tls is not None:
        _check_certificate_files(parsed.tls)
    return parsed


def _check_certificate_files(tls: RedisTls) -> None:
    context = ssl.create_default_context()
    try:
        if tls.ca_certs or tls.ca_path:
            context.load_verify_locations(tls.ca_certs, tls.ca_path)
    except OSError as error:
        raise ConfigurationError(
            f"the CA certificates for Redis ({tls.ca_certs or tls.ca_path}) "
            f"cannot be read: {_render_os_error(error)}"
        ) from None
    try:
        if tls.certfile:
            context.load_cert_chain(tls.certfile, tls.keyfile, tls.key_password or "")
    except OSError as error:
        raise ConfigurationError(
            f"the client certificate for Redis ({tls.certfile}) or its key cannot be read: "
            f"{_render_os_error(error)}"
        ) from None


def _render_os_error(error: OSError) -> str:
    """Return the error's text; for ``ssl.SSLError``, without the line of OpenSSL's source."""
    named = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return named or type(error).__name__


def _build_pool_arguments(url: RedisUrl, connect_seconds: float) -> dict[str, Any]:
    arguments: dict[str, Any] = {"db": url.db, "username": url.username, "password": url.password}
    if url.protocol is not None:
        arguments["protocol"] = url.protocol
    if url.path is not None:
        return arguments | {"connection_class": redis.UnixDomainSocketConnection, "path": url.path}
    arguments |= {"host": url.host, "port": url.port or DEFAULT_PORT}
    arguments |= {"socket_connect_timeout": connect_seconds, "socket_keepalive": True}
    if url.tls is not None:
        arguments |= {"connection_class": redis.SSLConnection, **url.tls.to_redis_options()}
    return arguments
