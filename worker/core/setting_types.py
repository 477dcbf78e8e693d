"""Types of settings that msgspec cannot express by itself: what is checked, and what is allowed."""

import re
from ipaddress import ip_network
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta

from models.resources import RESOURCES
from worker.core.config import build_rule
from worker.core.net.url import check_base_url, check_proxy_url
from worker.core.redis.url import parse_redis_url
from worker.core.secret import SecretStr

_WEB_TOKEN: Final = re.compile(r"[!-~]{32,200}", re.ASCII)
_HOST_NAME: Final = re.compile(
    r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*"
)
_CLIENT_ID: Final = re.compile(r"([^=]+=)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATABASE_SCHEMES: Final = ("postgres", "postgresql", "postgresql+psycopg")


def _check_database_url(url: SecretStr) -> SecretStr:
    try:
        scheme = urlsplit(url.get_secret_value()).scheme
    except ValueError:
        raise ValueError("is not a URL") from None
    if scheme not in _DATABASE_SCHEMES:
        raise ValueError(f"must start with {', '.join(f'{one}://' for one in _DATABASE_SCHEMES)}")
    return url


def _check_redis_url(url: SecretStr) -> SecretStr:
    parse_redis_url(url.get_secret_value())
    return url


def _check_web_token(token: SecretStr) -> SecretStr:
    if not _WEB_TOKEN.fullmatch(token.get_secret_value()):
        raise ValueError("must have at least 32 visible ASCII characters, without spaces")
    return token


def _check_host_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError("must be host names or addresses without port, such as mirror.example")
    return tuple(name.lower() for name in names)


def _check_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for one in networks:
        try:
            ip_network(one)
        except ValueError:
            raise ValueError("must be addresses or networks, such as 10.0.0.0/24") from None
    return networks


def _check_client_ids(ids: tuple[str, ...]) -> tuple[str, ...]:
    for one in ids:
        if not _CLIENT_ID.fullmatch(one):
            raise ValueError("must be an application's id, or INTEGRATION=id for each integration")
    return ids


def _check_resources(names: tuple[str, ...]) -> tuple[str, ...]:
    if not set(names) <= RESOURCES.keys():
        raise ValueError(f"must be names of resources: {', '.join(RESOURCES)}")
    return names


PositiveInt = Annotated[int, Meta(ge=1)]
NaturalInt = Annotated[int, Meta(ge=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
DatabaseUrl = Annotated[SecretStr, build_rule(check=_check_database_url)]
RedisAddress = Annotated[SecretStr, build_rule(check=_check_redis_url)]
ProxyUrl = Annotated[SecretStr, build_rule(check=check_proxy_url)]
BaseUrl = Annotated[str, build_rule(check=check_base_url, is_hidden=True)]
ActorName = Annotated[
    str,
    Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,100}\Z"),
    build_rule(allowed="1 to 100 characters without control characters"),
]
WebToken = Annotated[SecretStr, build_rule(check=_check_web_token)]
HostNames = Annotated[tuple[str, ...], build_rule(check=_check_host_names)]
Networks = Annotated[tuple[str, ...], build_rule(check=_check_networks)]
ResourceNames = Annotated[tuple[str, ...], build_rule(check=_check_resources)]
ClientIds = Annotated[tuple[str, ...], build_rule(check=_check_client_ids)]
EventPrefix = Annotated[
    str,
    Meta(pattern=r"\A[a-z0-9]+(\.[a-z0-9-]+)*\Z"),
    build_rule(allowed="words of a-z and 0-9 with dots between them, such as com.example"),
]
