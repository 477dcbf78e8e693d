"""Who acts: the name and the face of an operator, as the audit shows them."""

import os
import pwd
from typing import Final

from models.audit import Via
from worker.core.settings import Settings
from worker.store.service.audit import Actor

SERVICE_ACTOR: Final = Actor("tenant-mirror", Via.SERVICE)
"""The service itself, where it ends a pause."""


def get_host_actor(settings: Settings) -> Actor:
    """Return the operator of the command line.

    That is ``TENANT_MIRROR_ACTOR`` if it is set, otherwise the user of the host; for root under
    sudo, the user who called sudo. Whoever can run a command with the database's password can also
    set these: the name serves colleagues, it proves nothing.
    """
    return Actor(settings.actor or _get_host_user(), Via.CLI)


def _get_host_user() -> str:
    number = os.getuid()
    caller = os.environ.get("SUDO_USER")
    if number == 0 and caller:
        return caller
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        # A container may run under a number that has no name.
        return f"uid {number}"
