"""Who is signed in: a random secret in a cookie, and a row that its digest finds."""

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Final

from models.api_token import Scope
from worker.store.engine import Database
from worker.store.service.sign_ins import (
    SESSION_LIFETIME,
    StoredSession,
    end_session,
    find_session,
    store_session,
    use_link,
)
from worker.store.state.metrics import set_statement_timeout
from worker.web.client_address import is_loopback
from worker.web.verify import CACHE_SECONDS, Principal, TokenKey, TokenVerifier

COOKIE: Final = "__Host-tm"
PLAIN_COOKIE: Final = "tm"
"""Over plain HTTP from another host, where browsers drop a secure cookie."""
_SECRET_BYTES: Final = 32
_MAX_SECRET: Final = 100
_MAX_KNOWN: Final = 1000


@dataclass(frozen=True)
class Session:
    """A sign-in that can be used."""

    name: str
    """Of its token."""
    scopes: frozenset[Scope]
    expires_at: datetime

    @property
    def can_operate(self) -> bool:
        return Scope.OPERATE in self.scopes


class SessionKeeper:
    """Opens, finds and ends sessions. Safe to use from several threads.

    What it read of a session is used for two seconds, as tokens are. A session ends with its token.
    """

    def __init__(self, database: Database, verifier: TokenVerifier) -> None:
        self._database = database
        self._verifier = verifier
        self._lock = Lock()
        self._known: dict[bytes, tuple[float, StoredSession | None]] = {}

    def open(self, principal: Principal, key: TokenKey) -> str:
        """Store a session for a token, and return the secret of its cookie."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        with self._database.open_transaction() as db:
            set_statement_timeout(db)
            store_session(
                db,
                digest_secret(secret),
                name=principal.name,
                token_id=key.id,
                token_digest=key.digest,
            )
        return secret

    def open_by_link(self, code: str) -> str | None:
        """Return the secret of a new session for a link; None if the link cannot be used."""
        with self._database.open_transaction() as db:
            set_statement_timeout(db)
            linked = use_link(db, digest_secret(code))
        if linked is None:
            return None
        key = TokenKey(linked.token_id, linked.token_digest)
        principal = self._verifier.find(key)
        return None if principal is None else self.open(principal, key)

    def find(self, secret: str | None) -> Session | None:
        """Return the session of a cookie; None if there is none that can be used.

        Raises ServerUnavailable if sessions cannot be read.
        """
        if secret is None:
            return None
        digest = digest_secret(secret)
        begun = time.monotonic()
        with self._lock:
            read_at, stored = self._known.get(digest, (-CACHE_SECONDS, None))
        if begun - read_at >= CACHE_SECONDS:
            with self._database.open_transaction() as db:
                set_statement_timeout(db)
                stored = find_session(db, digest)
            self._keep(digest, begun, stored)
        if stored is None:
            return None
        principal = self._verifier.find(TokenKey(stored.token_id, stored.token_digest))
        if principal is None:
            return None
        return Session(stored.name, principal.scopes, stored.expires_at)

    def recall(self, secret: str | None) -> Session | None:
        """Return the session of a cookie as it was last read, without any right to act."""
        if secret is None:
            return None
        with self._lock:
            _, stored = self._known.get(digest_secret(secret), (0.0, None))
        if stored is None or stored.expires_at <= datetime.now(UTC):
            return None
        return Session(stored.name, frozenset((Scope.READ,)), stored.expires_at)

    def end(self, secret: str) -> None:
        digest = digest_secret(secret)
        with self._database.open_transaction() as db:
            set_statement_timeout(db)
            end_session(db, digest)
        with self._lock:
            self._known.pop(digest, None)

    def _keep(self, digest: bytes, read_at: float, stored: StoredSession | None) -> None:
        with self._lock:
            self._known.pop(digest, None)
            if stored is not None:
                self._known[digest] = (read_at, stored)
            while len(self._known) > _MAX_KNOWN:
                del self._known[next(iter(self._known))]


def digest_secret(secret: str) -> bytes:
    """Return the SHA-256 of a secret, which is what is stored."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def read_cookie(headers: Mapping[str, str]) -> str | None:
    """Return the secret that a request sends; None if it sends none."""
    sent: dict[str, str] = {}
    for pair in headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        sent.setdefault(name, value)
    secret = sent.get(COOKIE) or sent.get(PLAIN_COOKIE)
    return secret if secret and len(secret) <= _MAX_SECRET else None


def build_cookie(secret: str, host: str, *, is_encrypted: bool) -> str:
    """Return the Set-Cookie of a session. Browsers take a secure one from this host without TLS."""
    attributes = (
        f"Path=/; HttpOnly; SameSite=Strict; Max-Age={int(SESSION_LIFETIME.total_seconds())}"
    )
    if is_encrypted or _is_this_host(host):
        return f"{COOKIE}={secret}; Secure; {attributes}"
    return f"{PLAIN_COOKIE}={secret}; {attributes}"


def build_expired_cookies() -> tuple[str, ...]:
    """Return the Set-Cookie of each name that removes it."""
    attributes = "Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
    return (f"{COOKIE}=; Secure; {attributes}", f"{PLAIN_COOKIE}=; {attributes}")


def _is_this_host(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name.lower() == "localhost" or is_loopback(name.strip("[]"))
