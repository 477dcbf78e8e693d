"""Tokens of the HTTP API. Only their digests are stored."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import func, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from models.api_token import Scope, api_tokens
from worker.core.errors import NotFound, StateConflict

_NOTE_USE: Final = text("""
    update sync.api_tokens set last_used_at = date_trunc('minute', clock_timestamp())
     where id = any(:ids)
       and (last_used_at is null or last_used_at < date_trunc('minute', clock_timestamp()))
""")


class TokenDigest(NamedTuple):
    """What is needed to check a token that is presented."""

    id: str
    name: str
    digest: bytes
    scopes: frozenset[Scope]


@dataclass(frozen=True)
class ApiToken:
    """A token as operators see it."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    is_expired: bool

    @property
    def state(self) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.is_expired else "usable"


_EXPIRED: Final = func.coalesce(api_tokens.c.expires_at <= func.clock_timestamp(), False)
_COLUMNS: Final = tuple(
    _EXPIRED.label(name) if name == "is_expired" else api_tokens.c[name]
    for name in ApiToken.__dataclass_fields__
)


def create_token(
    db: sa.Connection,
    token: TokenDigest,
    *,
    created_by: str,
    lifetime: timedelta | None,
) -> datetime | None:
    """Store a token, and return when it expires.

    A revoked or expired token of the same name is replaced. Raises StateConflict if the name is in
    use.
    """
    unusable = or_(api_tokens.c.revoked_at.is_not(None), _EXPIRED)
    db.execute(api_tokens.delete().where(api_tokens.c.name == token.name, unusable))
    expires_at = None if lifetime is None else func.clock_timestamp() + lifetime
    statement = (
        insert(api_tokens)
        .values(
            id=token.id,
            name=token.name,
            digest=token.digest,
            scopes=sorted(token.scopes),
            created_by=created_by,
            expires_at=expires_at,
        )
        .on_conflict_do_nothing(index_elements=[api_tokens.c.name])
        .returning(api_tokens.c.expires_at)
    )
    row = db.execute(statement).one_or_none()
    if row is None:
        raise StateConflict(
            f"there is a token named '{token.name}'; choose another name, or revoke it first with "
            f"'tenant-mirror tokens revoke {token.name}'"
        )
    found: datetime | None = row.expires_at
    return found


def list_tokens(db: sa.Connection) -> list[ApiToken]:
    """Return all tokens, including revoked and expired ones, by name."""
    rows = db.execute(select(*_COLUMNS).order_by(api_tokens.c.name))
    return [_token_from_row(row) for row in rows]


def revoke_token(db: sa.Connection, named: str) -> ApiToken:
    """Revoke a token, given by its name or id, and return it as it was before.

    Raises NotFound.
    """
    matches = or_(api_tokens.c.name == named, api_tokens.c.id == named)
    order = (api_tokens.c.name == named).desc()
    row = db.execute(
        select(*_COLUMNS).where(matches).order_by(order).limit(1).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no token '{named}'; 'tenant-mirror tokens list' shows them all")
    token = _token_from_row(row)
    if token.revoked_at is None:
        values = {"revoked_at": func.clock_timestamp()}
        db.execute(api_tokens.update().where(api_tokens.c.id == token.id).values(values))
    return token


def load_usable_tokens(db: sa.Connection) -> list[TokenDigest]:
    """Return the tokens that are neither revoked nor expired by the clock of the database."""
    columns = (api_tokens.c[name] for name in TokenDigest._fields)
    statement = select(*columns).where(api_tokens.c.revoked_at.is_(None), ~_EXPIRED)
    return [
        TokenDigest(row.id, row.name, bytes(row.digest), parse_scopes(row.scopes))
        for row in db.execute(statement)
    ]


def note_token_use(db: sa.Connection, ids: Collection[str]) -> None:
    """Record that tokens were used in this minute."""
    db.execute(_NOTE_USE, {"ids": sorted(ids)})


def parse_scopes(names: Iterable[str]) -> frozenset[Scope]:
    return frozenset(map(Scope, names))


def _token_from_row(row: sa.Row[Any]) -> ApiToken:
    values = {name: getattr(row, name) for name in ApiToken.__dataclass_fields__}
    values["scopes"] = tuple(map(Scope, values["scopes"]))
    return ApiToken(**values)
