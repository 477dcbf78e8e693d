"""Customers with names that must not do anything: not in a page, a message or a terminal."""

from typing import Final

from sandbox.tenant.defaults import KEY
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.tenant import Tenant
from sandbox.tenant.nango.service import Nango

HOSTILE_NAMES: Final = (
    "<script>alert(1)</script>",
    "<!channel> @here",
    "\u202egnp.exe",
    "\u2066isolated\u2069 \u200f",
    "x" * 500,
    "",
    "two\nlines\r\nSet-Cookie: a=b",
    "tab\tand\vfeed\f",
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b2Jgone\x85",
    "separated\u2028lines\u2029",
    "[bold]markup[/bold] :smile:",
    "'; drop table sync.connections; --",
    "${jndi:ldap://x} {{7*7}} %s",
)
"""Names of organizations, people and groups as their owners may set them."""


def build_hostile_nango(
    seed: int = 1, *, key: str = KEY, epoch: int = 1, rate_limit: int | None = None
) -> Nango:
    """Build one small tenant for each hostile name; its organization, a user and a group bear it.

    The settings of each connection in Nango quote it, too.
    """
    nango = Nango(key, rate_limit=rate_limit, seed=seed)
    for number, name in enumerate(HOSTILE_NAMES):
        tenant = Tenant(
            seed=seed * 1000 + number,
            users=3,
            groups=2,
            sites=1,
            role_definitions=2,
            role_assignments=1,
            display_name=name,
            domain=f"hostile{number + 1}.example",
            epoch=epoch,
        )
        tenant.update_user(tenant.users.id_at(0), displayName=name, jobTitle=name)
        tenant.update_group(tenant.groups.id_at(0), displayName=name)
        nango.add_connection(
            guid_from_parts(seed, "connection", number),
            tenant,
            metadata={"tenant_mirror": {"delta_seconds": name}},
        )
    return nango
