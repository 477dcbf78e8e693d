"""Checks presented tokens against the stored ones, which are read again every two seconds."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from threading import Lock
from typing import Final, NamedTuple

from models.api_token import Scope
from worker.core.secret import SecretStr
from worker.store.engine import Database
from worker.store.service.tokens import TokenDigest, load_usable_tokens, note_token_use
from worker.store.state.metrics import set_statement_timeout
from worker.web.token import digest_token, is_token, parse_token_id

CACHE_SECONDS: Final = 2.0
"""How long a revocation may take until it is in force."""
UNKNOWN_SECONDS: Final = 0.1
"""How old the known tokens may be if one is not among them: it may have been made just now. Wrong
tokens, however many, make the server read the tokens no more often."""
USE_SECONDS: Final = 60.0
"""Between two writes of when a token was last used."""

BOOTSTRAP_NAME: Final = "TENANT_MIRROR_WEB_TOKEN"
"""The name of that setting's token, in the audit."""

MAX_FAILURES: Final = 10
FAILURE_SECONDS: Final = 60.0
_MAX_ADDRESSES: Final = 10_000
_NO_TOKEN: Final = bytes(32)


@dataclass(frozen=True)
class Principal:
    """Who sent a request, by its token."""

    name: str
    scopes: frozenset[Scope]


class TokenKey(NamedTuple):
    """What finds a token again that was presented once, as long as it can be used."""

    id: str | None
    """None for that of the settings."""
    digest: bytes


class TokenVerifier:
    """Checks tokens. Safe to use from several threads."""

    def __init__(self, database: Database, bootstrap: SecretStr | None) -> None:
        self._database = database
        self._bootstrap = digest_token(bootstrap.get_secret_value()) if bootstrap else None
        self._lock = Lock()
        self._tokens: Mapping[str, TokenDigest] = {}
        self._loaded_at = -CACHE_SECONDS
        self._noted_at: dict[str, float] = {}
        self._unnoted: set[str] = set()

    def verify(self, presented: str) -> Principal | None:
        """Return whose token it is; None if it cannot be used.

        Raises ServerUnavailable if the tokens cannot be read.
        """
        if self._bootstrap is not None and is_token(presented, self._bootstrap):
            return Principal(BOOTSTRAP_NAME, frozenset(Scope))
        number = parse_token_id(presented)
        if number is None:
            return None
        found = self._find_token(number)
        is_right = is_token(presented, found.digest if found else _NO_TOKEN)
        if found is None or not is_right:
            return None
        self._note_use(number)
        return Principal(found.name, found.scopes)

    def build_key(self, presented: str) -> TokenKey:
        """Return what finds the token of a text that ``verify`` has accepted."""
        digest = digest_token(presented)
        return TokenKey(None if digest == self._bootstrap else parse_token_id(presented), digest)

    def find(self, key: TokenKey, usable_seconds: float = CACHE_SECONDS) -> Principal | None:
        """Return whose token it is; None if it cannot be used any more.

        Tokens that were read up to ``usable_seconds`` ago are used.
        Raises ServerUnavailable if the tokens cannot be read.
        """
        if key.id is None:
            is_bootstrap = key.digest == self._bootstrap
            return Principal(BOOTSTRAP_NAME, frozenset(Scope)) if is_bootstrap else None
        found = self._find_token(key.id, usable_seconds)
        if found is None or found.digest != key.digest:
            return None
        self._note_use(key.id)
        return Principal(found.name, found.scopes)

    def has_tokens(self) -> bool:
        """Whether any token can be used. Raises ServerUnavailable."""
        return self._bootstrap is not None or bool(self._load_tokens())

    def _find_token(self, number: str, usable_seconds: float = CACHE_SECONDS) -> TokenDigest | None:
        known = self._load_tokens(usable_seconds)
        if number not in known:
            known = self._load_tokens(UNKNOWN_SECONDS)
        return known.get(number)

    def _load_tokens(self, max_seconds: float = CACHE_SECONDS) -> Mapping[str, TokenDigest]:
        with self._lock:
            if time.monotonic() - self._loaded_at >= max_seconds:
                begun = time.monotonic()
                with self._database.open_transaction() as db:
                    set_statement_timeout(db)
                    tokens = {token.id: token for token in load_usable_tokens(db)}
                self._tokens, self._loaded_at = tokens, begun
                self._noted_at = {k: v for k, v in self._noted_at.items() if k in tokens}
            return self._tokens

    def _note_use(self, number: str) -> None:
        """Write when tokens were used: of all that are in use together, once a minute."""
        with self._lock:
            now = time.monotonic()
            self._unnoted.add(number)
            if now - self._noted_at.get(number, -USE_SECONDS) < USE_SECONDS:
                return
            used, self._unnoted = self._unnoted, set()
            self._noted_at.update(dict.fromkeys(used, now))
        with self._database.open_transaction() as db:
            set_statement_timeout(db)
            note_token_use(db, used)


class FailureLimiter:
    """Counts wrong tokens by address, for a minute each. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures: dict[str, list[float]] = {}

    def note_failure(self, address: str) -> int | None:
        """Count a wrong token; return the seconds to wait if the address has sent too many."""
        key, now = _group_address(address), time.monotonic()
        with self._lock:
            recent = [at for at in self._failures.pop(key, []) if now - at < FAILURE_SECONDS]
            is_over = len(recent) >= MAX_FAILURES
            if not is_over:
                recent.append(now)
            # The address that failed last stands last, so the oldest are forgotten first.
            self._failures[key] = recent
            while len(self._failures) > _MAX_ADDRESSES:
                del self._failures[next(iter(self._failures))]
        return max(1, round(FAILURE_SECONDS - (now - recent[0]))) if is_over else None


def _group_address(address: str) -> str:
    """Return an IPv4 address, or the network that one client of IPv6 has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return (
        str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address
    )
