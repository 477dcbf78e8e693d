"""The Host header: only names by which this server is meant are served.

A page in a browser can make its own name lead to this host and would then read the answers as its
own. The name that it uses stays in the header.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

_LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_UNSPECIFIED: Final = ("0.0.0.0", "::", "")  # noqa: S104 - they are left out, not listened at
_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", re.ASCII)


def list_host_names(names: Iterable[str], bound_host: str) -> frozenset[str]:
    """Return the names that are served: this host's, the address bound to, and those set."""
    bound = () if bound_host in _UNSPECIFIED else (bound_host.lower(),)
    return frozenset((*_LOCAL_NAMES, *bound, *names))


def is_known_host(headers: Sequence[tuple[bytes, bytes]], names: frozenset[str]) -> bool:
    """Whether a request names exactly one host, with or without a port, that is served."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        return False
    found = _HOST.fullmatch(hosts[0].decode("latin-1").lower())
    return found is not None and (found[1] or found[2]) in names
