"""Parses Redis URLs, for the broker, the call budgets and the event streams alike.

    redis://user:password@host:6379/0
    rediss://user:password@host:6380/0?ssl_ca_certs=/etc/ca.pem
    unix:///run/redis.sock?db=0&username=user&password=password

``rediss://`` is TLS. The server's certificate and its name are checked unless the URL itself turns
that off. The options have the names that redis-py gives them. Pure: nothing is opened here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

SCHEMES: Final = ("redis", "rediss", "unix")
DEFAULT_PORT: Final = 6379

_CERT_REQS: Final = {
    "required": "required",
    "cert_required": "required",
    # Servers always send a certificate, so "optional" means that it is checked.
    "optional": "required",
    "cert_optional": "required",
    "none": "none",
    "cert_none": "none",
}
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_PLAIN_OPTIONS: Final = ("db", "username", "password", "protocol")
_TLS_OPTIONS: Final = (
    "ssl_cert_reqs",
    "ssl_check_hostname",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
)

_SINGLE_ADDRESS_HINT: Final = (
    "give one address that always leads to the primary, such as a proxy or a DNS name"
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RedisTls:
    """TLS options of a connection. Certificate files are read when it connects."""

    verifies_certificate: bool = True
    """Whether the certificate must come from a trusted authority."""
    verifies_hostname: bool = True
    """Whether the certificate must match the URL's host."""
    ca_certs: str | None = None
    ca_path: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    key_password: str | None = field(default=None, repr=False)

    def to_redis_options(self) -> dict[str, Any]:
        """Return the options as redis-py takes them; kombu passes them on unchanged."""
        return {
            "ssl_cert_reqs": "required" if self.verifies_certificate else "none",
            "ssl_check_hostname": self.verifies_certificate and self.verifies_hostname,
            "ssl_ca_certs": self.ca_certs,
            "ssl_ca_path": self.ca_path,
            "ssl_certfile": self.certfile,
            "ssl_keyfile": self.keyfile,
            "ssl_password": self.key_password,
        }

    def to_query(self) -> dict[str, str]:
        """Return the options as a URL query, without defaults."""
        query = {
            name: str(value) for name, value in self.to_redis_options().items() if value is not None
        }
        if self.verifies_hostname or not self.verifies_certificate:
            del query["ssl_check_hostname"]
        return query


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """One Redis server and how to log in to it."""

    host: str = "localhost"
    port: int | None = None
    path: str | None = None
    """Path of a Unix socket, used instead of the host."""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: RedisTls | None = None
    protocol: int | None = None
    """RESP version, 2 or 3; None for the client's default."""

    @property
    def location(self) -> str:
        """The server's address, without the password."""
        if self.path is not None:
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port or DEFAULT_PORT}/{self.db}"

    def to_broker_url(self) -> str:
        """Return the URL as kombu parses it: every part quoted, all TLS options written out."""
        login = _build_userinfo(self.username, self.password)
        if self.path is not None:
            query = f"?virtual_host={self.db}" if self.db else ""
            return f"redis+socket://{login}{quote(self.path)}{query}"
        host = f"[{self.host}]" if ":" in self.host else quote(self.host)
        port = f":{self.port}" if self.port else ""
        if self.tls is None:
            return f"redis://{login}{host}{port}/{self.db}"
        return f"rediss://{login}{host}{port}/{self.db}?{urlencode(self.tls.to_query())}"


def parse_redis_url(text: str) -> RedisUrl:
    """Parse a Redis URL. Raises ValueError with a message that quotes nothing of the text."""
    parts = _split(text)
    options = _Options(parts.query)
    socket = parts.scheme == "unix"
    username = _unquote_optional(parts.username) or options.take("username")
    password = _unquote_optional(parts.password) or options.take("password")
    parsed = RedisUrl(
        host="" if socket else unquote(parts.hostname or "localhost"),
        port=parts.port,
        path=_parse_socket_path(parts) if socket else None,
        db=_parse_database_number(parts, options),
        username=username,
        password=password,
        tls=_parse_tls(options) if parts.scheme == "rediss" else None,
        protocol=options.take_choice("protocol", {"2": 2, "3": 3}),
    )
    options.reject_unknown(has_tls=parsed.tls is not None)
    return parsed


def _split(text: str) -> SplitResult:
    if any(letter.isspace() or not letter.isprintable() or letter == "\\" for letter in text):
        raise ValueError("contains a space, a backslash or a control character; percent-encode it")
    scheme = text.partition("://")[0].lower()
    if "sentinel" in scheme.split("+"):
        raise ValueError(f"names Sentinels, which are not supported; {_SINGLE_ADDRESS_HINT}")
    if scheme not in SCHEMES:
        raise ValueError(f"must start with {', '.join(f'{one}://' for one in SCHEMES)}")
    if "#" in text:
        raise ValueError("contains a '#'; in a password, write it as %23")
    try:
        parts = urlsplit(text)
        hosts = parts.netloc.rpartition("@")[2]
        port = parts.port if "," not in hosts else None
    except ValueError:
        raise ValueError(
            "is not a URL; in a password, write '/', '?', '@', ':' and '%' as %.."
        ) from None
    if "," in hosts:
        raise ValueError(f"names several hosts; {_SINGLE_ADDRESS_HINT}")
    if port == 0:
        raise ValueError("names port 0")
    return parts


def _parse_socket_path(parts: SplitResult) -> str:
    if parts.netloc.rpartition("@")[2] or not parts.path.strip("/"):
        raise ValueError("must name the socket as unix:///path")
    return unquote(parts.path)


def _parse_database_number(parts: SplitResult, options: "_Options") -> int:
    written = options.take("db")
    in_path = "" if parts.scheme == "unix" else parts.path.strip("/")
    if written is not None and in_path and written != in_path:
        raise ValueError("names two databases, one after the host and one as 'db'")
    number = written or in_path or "0"
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise ValueError("must name the database by its number, as in redis://host:6379/0")
    return int(number)


def _parse_tls(options: "_Options") -> RedisTls:
    reqs = options.take_choice("ssl_cert_reqs", _CERT_REQS)
    check = options.take_choice("ssl_check_hostname", _BOOLEANS)
    tls = RedisTls(
        verifies_certificate=reqs != "none",
        verifies_hostname=check is not False,
        ca_certs=options.take("ssl_ca_certs"),
        ca_path=options.take("ssl_ca_path"),
        certfile=options.take("ssl_certfile"),
        keyfile=options.take("ssl_keyfile"),
        key_password=options.take("ssl_password"),
    )
    if tls.keyfile and not tls.certfile:
        raise ValueError("names ssl_keyfile without ssl_certfile")
    return tls


class _Options:
    """The query of a URL; each option may be taken once."""

    def __init__(self, query: str) -> None:
        pairs = parse_qsl(query, keep_blank_values=True)
        self._left = dict(pairs)
        for name in self._left:
            if sum(other == name for other, _ in pairs) > 1:
                raise ValueError("gives an option twice")

    def take(self, name: str) -> str | None:
        return self._left.pop(name, None) or None

    def take_choice(self, name: str, values: Mapping[str, _T]) -> _T | None:
        given = self.take(name)
        if given is None:
            return None
        if given.lower() not in values:
            raise ValueError(f"must give {name} as one of {', '.join(values)}")
        return values[given.lower()]

    def reject_unknown(self, *, has_tls: bool) -> None:
        for name in self._left:
            if name in _TLS_OPTIONS and not has_tls:
                raise ValueError(f"has the option {name}, which needs rediss://")
        if self._left:
            options = ", ".join((*_PLAIN_OPTIONS, *_TLS_OPTIONS))
            raise ValueError(f"has an option that is not one of {options}")


def _build_userinfo(username: str | None, password: str | None) -> str:
    if username is None and password is None:
        return ""
    name = quote(username or "", safe="")
    return f"{name}@" if password is None else f"{name}:{quote(password, safe='')}@"


def _unquote_optional(part: str | None) -> str | None:
    return unquote(part) if part else None
