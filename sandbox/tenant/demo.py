"""The demo: three companies, the same after every restart."""

from sandbox.tenant.defaults import KEY
from sandbox.tenant.directory.clock import TenantClock
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.kind_counts import KindCounts
from sandbox.tenant.directory.tenant import Tenant
from sandbox.tenant.nango.service import Nango
from sandbox.tenant.story import Story

_COMPANIES = (
    # name, users, groups, members a group, big groups, sites, roles, assignments
    ("Contoso", 20_000, 400, 25, 2, 300, 90, 120),
    ("Fabrikam", 300, 25, 8, 0, 30, 40, 20),
    ("Tailspin", 60, 8, 6, 0, 10, 30, 8),
)
_BIG_GROUP = 3000


def build_demo_nango(
    seed: int = 1, *, key: str = KEY, epoch: int = 1, rate_limit: int | None = None
) -> Nango:
    """Build Contoso with 20,000 users and two small companies; ids depend on the seed alone."""
    nango = Nango(key, rate_limit=rate_limit, seed=seed)
    for number, company in enumerate(_COMPANIES):
        name, users, groups, members, big, sites, roles, assignments = company
        tenant = Tenant(
            seed=seed * 1000 + number,
            users=users,
            groups=groups,
            members_per_group=members,
            big_groups=big,
            big_group_members=_BIG_GROUP,
            # Sooner or later the last member of a hidden group leaves, and deletions are held back.
            hidden_groups=False,
            sites=sites,
            role_definitions=roles,
            role_assignments=assignments,
            others=12,
            kinds=KindCounts.for_users(users),
            clock=TenantClock(running=True),
            display_name=name,
            domain=f"{name.lower()}.example",
            epoch=epoch,
        )
        nango.add_connection(guid_from_parts(seed, "connection", number), tenant)
    return nango


def build_sized_nango(
    users: tuple[int, ...],
    seed: int = 1,
    *,
    key: str = KEY,
    epoch: int = 1,
    rate_limit: int | None = None,
) -> Nango:
    """Build one tenant for each number of users, with all else in proportion."""
    nango = Nango(key, rate_limit=rate_limit, seed=seed)
    for number, count in enumerate(users):
        tenant = Tenant(
            seed=seed * 1000 + number,
            users=count,
            groups=max(count // 50, 2),
            members_per_group=20,
            sites=max(count // 60, 3),
            role_definitions=40,
            role_assignments=min(max(count // 100, 4), 500),
            others=12,
            kinds=KindCounts.for_users(count),
            clock=TenantClock(running=True),
            display_name=f"Tenant {number + 1}",
            domain=f"tenant{number + 1}.example",
            epoch=epoch,
        )
        nango.add_connection(guid_from_parts(seed, "connection", number), tenant)
    return nango


def build_story_nango(
    seed: int = 1, *, key: str = KEY, epoch: int = 1, rate_limit: int | None = None
) -> Nango:
    """Build the one tenant in which what people ask has an answer."""
    nango = Nango(key, rate_limit=rate_limit, seed=seed)
    story = Story(seed=seed, epoch=epoch, clock=TenantClock(running=True))
    nango.add_connection(guid_from_parts(seed, "connection", "story"), story)
    return nango
