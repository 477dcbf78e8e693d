"""Parsers for the texts of settings. All raise ValueError with a message that shows no value."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final
from urllib.parse import urlsplit

from worker.core.redis.url import parse_redis_url

Parser = Callable[[object], object]

_WHOLE: Final = re.compile(r"\s*[+-]?[0-9]+(?:_[0-9]+)*(?:\.0+)?\s*", re.ASCII)


@final
class SecretStr:
    """A text that neither its own ``repr`` nor that of its container shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return "**********" if self._text else ""

    def __repr__(self) -> str:
        return f"SecretStr('{self}')"


_PEM: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)


@final
@dataclass(frozen=True)
class Certificates:
    """PEM certificates of authorities, without other text of their file."""

    pem: str = field(repr=False)

    def __str__(self) -> str:
        number = self.pem.count("BEGIN CERTIFICATE")
        return f"{number} certificate{'s' if number > 1 else ''}"


def build_int_parser(at_least: int, at_most: int | None = None) -> Parser:
    """Return a parser for integers within bounds."""

    def read(value: object) -> int:
        return int(_check_bounds(_to_int(value), at_least=at_least, at_most=at_most))

    return read


def build_float_parser(
    *, above: float | None = None, at_least: float | None = None, at_most: float | None = None
) -> Parser:
    """Return a parser for finite numbers within bounds."""

    def read(value: object) -> float:
        return _check_bounds(_to_float(value), above=above, at_least=at_least, at_most=at_most)

    return read


def build_pattern_parser(pattern: str) -> Parser:
    """Return a parser for texts that match a pattern."""

    def read(value: object) -> str:
        written = parse_text(value)
        if not re.fullmatch(pattern.removeprefix("^").removesuffix("$"), written):
            raise ValueError(f"string should match pattern '{pattern}'")
        return written

    return read


def parse_secret(value: object) -> SecretStr:
    """Parse a text that must not be shown."""
    return value if isinstance(value, SecretStr) else SecretStr(parse_text(value))


def build_secret_url_parser(*schemes: str) -> Parser:
    """Return a parser for URLs that may hold a password."""

    def read(value: object) -> SecretStr:
        hidden = parse_secret(value)
        try:
            scheme = urlsplit(hidden.get_secret_value()).scheme
        except ValueError:
            raise ValueError("is not a URL") from None
        if scheme not in schemes:
            raise ValueError(f"must start with {', '.join(f'{s}://' for s in schemes)}")
        return hidden

    return read


def parse_redis_address(value: object) -> SecretStr:
    """Parse the URL of a Redis server."""
    hidden = parse_secret(value)
    parse_redis_url(hidden.get_secret_value())
    return hidden


def parse_certificates(value: object) -> Certificates:
    """Parse certificates in PEM format."""
    if isinstance(value, Certificates):
        return value
    found = _PEM.findall(parse_text(value))
    if not found:
        raise ValueError("must hold certificates in PEM, which begin -----BEGIN CERTIFICATE-----")
    return Certificates("\n".join([*found, ""]))


def parse_base_url(value: object) -> str:
    """Parse a URL that paths can be appended to."""
    written = parse_text(value)
    if not _is_base_url(written):
        raise ValueError("must look like https://api.nango.dev or http://host:3003/path")
    return written.rstrip("/")


def parse_list(value: object) -> tuple[str, ...]:
    """Parse a comma-separated list."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, tuple | list):
        raise ValueError("input should be a valid tuple")  # noqa: TRY004 - one kind of mistake
    return tuple(parse_text(part) for part in value)


def parse_path(value: object) -> Path:
    """Parse the path of a file or folder."""
    return value if isinstance(value, Path) else Path(parse_text(value))


def parse_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("input should be a valid string")  # noqa: TRY004 - one kind of mistake
    return value


def _to_int(value: object) -> int:
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    if not isinstance(value, str):
        raise ValueError("input should be a valid integer")  # noqa: TRY004 - one kind of mistake
    if not _WHOLE.fullmatch(value):
        raise ValueError("input should be a valid integer, unable to parse string as an integer")
    try:
        return int(value.partition(".")[0])
    except ValueError:
        raise ValueError(
            "unable to parse input string as an integer, exceeded maximum size"
        ) from None


def _to_float(value: object) -> float:
    if not isinstance(value, int | float | str):
        raise ValueError("input should be a valid number")  # noqa: TRY004 - one kind of mistake
    try:
        return float(value if not isinstance(value, str) or value.isascii() else "")
    except (ValueError, OverflowError):
        raise ValueError(
            "input should be a valid number, unable to parse string as a number"
        ) from None


def _check_bounds(
    value: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> float:
    """Raise ValueError unless every bound holds; NaN fails, as all its comparisons are false."""
    if at_most is not None and not value <= at_most:
        raise ValueError(f"input should be less than or equal to {at_most}")
    if at_least is not None and not value >= at_least:
        raise ValueError(f"input should be greater than or equal to {at_least}")
    if above is not None and not value > above:
        raise ValueError(f"input should be greater than {above}")
    return value


def _is_base_url(value: str) -> bool:
    """Whether paths can be appended: no user, query, fragment, blank or control character."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    odd = any(letter in "@?#\\" or letter.isspace() or not letter.isprintable() for letter in value)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and not odd
