"""URLs that may hold a password. Error messages quote no part of the URL.

Python's own parsers quote the part that they cannot read. Where a password has a character with a
meaning in URLs, that part belongs to the password.
"""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote, urlsplit

from worker.core.secret import SecretStr

ENCODING_HINT: Final = (
    "in a user or password, write % as %25, @ as %40, / as %2F, : as %3A, # as %23, ? as %3F, "
    "[ as %5B and ] as %5D"
)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]@:]*)(?::([0-9]{1,5}))?")


@dataclass(frozen=True)
class UrlParts:
    """The parts of a URL; ``rest`` is everything from the path on."""

    scheme: str
    user: str | None
    password: str | None = field(repr=False)
    host: str
    port: int | None
    rest: str = field(repr=False)


def split_url(url: str) -> UrlParts:
    """Split a URL into its parts. Raises ValueError if it is invalid or ambiguous."""
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ValueError("is not a URL")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    login, at, place = authority.rpartition("@")
    behind = rest[len(authority) :]
    match = _HOST_AND_PORT.fullmatch(place)
    if match is None or "@" in behind or any(_is_forbidden(letter) for letter in place):
        raise ValueError(f"has a host or port that cannot be read; {ENCODING_HINT}")
    host, port = match[1].strip("[]"), match[2]
    if port is not None and not 0 < int(port) < 65_536:
        raise ValueError("has an invalid port")
    user, colon, password = login.partition(":")
    return UrlParts(
        scheme.lower(),
        unquote(user) if at else None,
        unquote(password) if colon else None,
        host,
        None if port is None else int(port),
        behind,
    )


def _is_forbidden(letter: str) -> bool:
    return letter.isspace() or not letter.isprintable() or letter == "\\"


def check_proxy_url(address: SecretStr) -> SecretStr:
    """Return the URL of an HTTP proxy, which may hold a user and password. Raises ValueError."""
    parts = split_url(address.get_secret_value())
    if parts.scheme != "http":
        raise ValueError("must start with http://, the protocol to the proxy itself")
    if not parts.host or parts.port is None or parts.rest not in ("", "/"):
        raise ValueError("must look like http://proxy.example.com:3128")
    return address


def check_base_url(url: str) -> str:
    """Return a URL that paths can be appended to, without a slash at its end. Raises ValueError."""
    if not _is_base_url(url):
        raise ValueError("must look like https://api.nango.dev or http://host:3003/path")
    return url.rstrip("/")


def _is_base_url(url: str) -> bool:
    """Whether paths can be appended: no user, query, fragment, blank or control character."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    odd = any(letter in "@?#\\" or letter.isspace() or not letter.isprintable() for letter in url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and not odd


@dataclass(frozen=True)
class HttpProxy:
    """An HTTP proxy, and the setting that names it."""

    host: str
    port: int
    credentials: str | None = field(repr=False)
    setting: str

    def __str__(self) -> str:
        """Return the address for messages, without user and password."""
        return f"the proxy {bracket_ipv6(self.host)}:{self.port}"


def proxy_from_setting(address: SecretStr | None, setting: str) -> HttpProxy | None:
    """Return the proxy that a setting names, or None. Raises ValueError."""
    if address is None:
        return None
    parts = split_url(check_proxy_url(address).get_secret_value())
    login = None if parts.user is None else f"{parts.user}:{parts.password or ''}"
    assert parts.port is not None, "check_proxy_url accepts no URL without a port"
    return HttpProxy(parts.host, parts.port, login, setting)


def bracket_ipv6(host: str) -> str:
    """Return a host as a URL writes it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by name or address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        name = host.lower().rstrip(".")
        return name in ("localhost", "localhost.localdomain") or name.endswith(".localhost")


def is_unencrypted(url: str) -> bool:
    """Whether a connection to a URL leaves this machine unencrypted, so that others can read it."""
    parts = split_url(url)
    return parts.scheme == "http" and not is_loopback(parts.host)
