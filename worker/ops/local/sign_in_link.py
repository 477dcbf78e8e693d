"""A link to the page that signs in once, for who runs everything on this machine."""

import contextlib
import re
import secrets
import socket
from datetime import timedelta
from typing import Final

from models.api_token import Scope
from models.audit import AuditAction
from worker.core.errors import NotFound
from worker.core.settings import Settings
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, open_audited_transaction
from worker.page.session import digest_secret
from worker.store.engine import Database
from worker.store.service.sign_ins import LinkedToken, store_link
from worker.store.service.tokens import TokenDigest, create_token, revoke_token
from worker.web.token import generate_token

_LIFETIME: Final = timedelta(hours=12)
_SCOPES: Final = frozenset((Scope.READ, Scope.OPERATE))
_CODE_BYTES: Final = 32


def make_sign_in_link(database: Database, settings: Settings, url: str) -> str:
    """Return a link for a new token of this machine, which replaces the one of an earlier start."""
    name = f"run-{re.sub('[^A-Za-z0-9-]', '-', socket.gethostname())[:50]}"
    made, code = generate_token(), secrets.token_urlsafe(_CODE_BYTES)
    actor = get_host_actor(settings)
    asked = {"scopes": sorted(_SCOPES), "expires": "12h", "id": made.id}
    action = AuditedAction(actor, AuditAction.TOKENS_CREATE, subject=name, parameters=asked)
    with open_audited_transaction(database, action) as db:
        with contextlib.suppress(NotFound):  # with the first start
            revoke_token(db, name)
        digest = TokenDigest(made.id, name, made.digest, _SCOPES)
        create_token(db, digest, created_by=actor.name, lifetime=_LIFETIME)
        store_link(db, digest_secret(code), LinkedToken(made.id, made.digest))
    return f"{url}/sign-in/link?code={code}"
