"""Who is signed in: a random secret in a cookie, and a row that its digest finds."""

import hashlib
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Final

from models.api_token import Scope
from worker.core.errors import MirrorError
from worker.store.engine import Database
from worker.store.service.sign_ins import (
    SESSION_LIFETIME,
    StoredSession,
    end_session,
    find_sessions,
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
_IN_USE_SECONDS: Final = 10.0
"""A session that was asked for within this time is read again together with others."""


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


@dataclass
class _Known:
    """A session as it was read."""

    stored: StoredSession
    read_at: float
    asked_at: float


class SessionKeeper:
    """Opens, finds and ends sessions. Safe to use from several threads.

    What it read of a session is used for two seconds, as tokens are. All sessions in use are read
    again together, so that many of them cost the database no more than one. A session ends with
    its token.
    """

    def __init__(self, database: Database, verifier: TokenVerifier) -> None:
        self._database = database
        self._verifier = verifier
        self._lock = Lock()
        """For what is known."""
        self._reading = Lock()
        """Held by the thread that reads or ends sessions; it may take long."""
        self._known: dict[bytes, _Known] = {}
        self._failure: tuple[float, MirrorError] | None = None
        """When sessions could last not be read, and why."""

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

    def find(self, secret: str | None, usable_seconds: float = 0.0) -> Session | None:
        """Return the session of a cookie; None if there is none that can be used.

        What was read up to ``usable_seconds`` ago is used, where that is longer than usual.
        Raises ServerUnavailable if sessions cannot be read.
        """
        if secret is None:
            return None
        usable_seconds = max(CACHE_SECONDS, usable_seconds)
        stored = self._find_stored(digest_secret(secret), time.monotonic(), usable_seconds)
        if stored is None:
            return None
        key = TokenKey(stored.token_id, stored.token_digest)
        principal = self._verifier.find(key, usable_seconds)
        if principal is None:
            return None
        return Session(stored.name, principal.scopes, stored.expires_at)

    def recall(self, secret: str | None) -> Session | None:
        """Return the session of a cookie as it was last read, without any right to act."""
        if secret is None:
            return None
        with self._lock:
            known = self._known.get(digest_secret(secret))
        if known is None or known.stored.expires_at <= datetime.now(UTC):
            return None
        return Session(known.stored.name, frozenset((Scope.READ,)), known.stored.expires_at)

    def end(self, secret: str) -> None:
        digest = digest_secret(secret)
        with self._reading:
            with self._database.open_transaction() as db:
                set_statement_timeout(db)
                end_session(db, digest)
            with self._lock:
                self._known.pop(digest, None)

    def _find_stored(
        self, digest: bytes, asked: float, usable_seconds: float
    ) -> StoredSession | None:
        if (known := self._find_known(digest, asked, usable_seconds)) is not None:
            return known
        with self._reading:
            # Whoever held the lock may have read this one, too, or found that it cannot be read.
            if (known := self._find_known(digest, asked, usable_seconds)) is not None:
                return known
            if self._failure is not None and self._failure[0] >= asked:
                raise self._failure[1]
            digests = self._list_in_use(asked) | {digest}
            begun = time.monotonic()
            try:
                with self._database.open_transaction() as db:
                    set_statement_timeout(db)
                    found = find_sessions(db, digests)
            except MirrorError as error:
                self._failure = time.monotonic(), error
                raise
            self._keep(digests, found, begun, asked)
            return found.get(digest)

    def _find_known(
        self, digest: bytes, asked: float, usable_seconds: float
    ) -> StoredSession | None:
        with self._lock:
            known = self._known.get(digest)
            if known is None:
                return None
            known.asked_at = max(known.asked_at, asked)
            return known.stored if asked - known.read_at < usable_seconds else None

    def _list_in_use(self, asked: float) -> set[bytes]:
        """Return the sessions in use."""
        with self._lock:
            known = self._known.items()
            return {key for key, one in known if asked - one.asked_at < _IN_USE_SECONDS}

    def _keep(
        self,
        digests: Collection[bytes],
        found: Mapping[bytes, StoredSession],
        read_at: float,
        asked: float,
    ) -> None:
        with self._lock:
            for digest in digests:
                before = self._known.pop(digest, None)
                if (stored := found.get(digest)) is not None:
                    asked_at = before.asked_at if before else asked
                    self._known[digest] = _Known(stored, read_at, asked_at)
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
