"""Sign-ins to the page of operators, and links that sign in once. Only digests are stored."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert

from models.page_session import page_sessions, sign_in_links

SESSION_LIFETIME: Final = timedelta(hours=12)
LINK_LIFETIME: Final = timedelta(minutes=15)
KEPT: Final = timedelta(days=1)
"""How long what has ended is kept."""


class StoredSession(NamedTuple):
    """A session that has neither ended nor expired."""

    name: str
    token_id: str | None
    token_digest: bytes
    expires_at: datetime


class LinkedToken(NamedTuple):
    """The token that a link signs in with."""

    token_id: str
    token_digest: bytes


def store_session(
    db: sa.Connection, digest: bytes, *, name: str, token_id: str | None, token_digest: bytes
) -> None:
    db.execute(
        insert(page_sessions).values(
            digest=digest,
            name=name,
            token_id=token_id,
            token_digest=token_digest,
            expires_at=func.clock_timestamp() + SESSION_LIFETIME,
        )
    )


def find_sessions(db: sa.Connection, digests: Collection[bytes]) -> Mapping[bytes, StoredSession]:
    """Return those sessions that can be used, by the clock of the database. One statement."""
    sessions = page_sessions.c
    columns = (sessions[name] for name in StoredSession._fields)
    rows = db.execute(
        select(sessions.digest, *columns).where(
            sessions.digest.in_(digests),
            sessions.ended_at.is_(None),
            sessions.expires_at > func.clock_timestamp(),
        )
    )
    return {
        bytes(row.digest): StoredSession(
            row.name, row.token_id, bytes(row.token_digest), row.expires_at
        )
        for row in rows
    }


def end_session(db: sa.Connection, digest: bytes) -> None:
    mine = (page_sessions.c.digest == digest, page_sessions.c.ended_at.is_(None))
    db.execute(page_sessions.update().where(*mine).values(ended_at=func.clock_timestamp()))


def store_link(db: sa.Connection, digest: bytes, token: LinkedToken) -> None:
    db.execute(
        insert(sign_in_links).values(
            digest=digest,
            token_id=token.token_id,
            token_digest=token.token_digest,
            expires_at=func.clock_timestamp() + LINK_LIFETIME,
        )
    )


def use_link(db: sa.Connection, digest: bytes) -> LinkedToken | None:
    """Mark a link as used, and return its token; None if it was used before or has expired."""
    links = sign_in_links.c
    row = db.execute(
        sign_in_links.update()
        .where(
            links.digest == digest,
            links.used_at.is_(None),
            links.expires_at > func.clock_timestamp(),
        )
        .values(used_at=func.clock_timestamp())
        .returning(links.token_id, links.token_digest)
    ).one_or_none()
    return None if row is None else LinkedToken(row.token_id, bytes(row.token_digest))


def purge_sign_ins(db: sa.Connection) -> int:
    """Delete sessions and links that ended a day ago; return how many."""
    before = func.clock_timestamp() - KEPT
    sessions = page_sessions.delete().where(
        or_(page_sessions.c.expires_at < before, page_sessions.c.ended_at < before)
    )
    links = sign_in_links.delete().where(sign_in_links.c.expires_at < before)
    return db.execute(sessions).rowcount + db.execute(links).rowcount
