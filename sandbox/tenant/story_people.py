"""The people and groups of the story, and its roles."""

from typing import Final

from sandbox.tenant.directory.templates.licences import SKU_IDS
from sandbox.tenant.directory.templates.template import Props

DOMAIN: Final = "alpine.example"
E3, E5 = SKU_IDS["SPE_E3"], SKU_IDS["SPE_E5"]

ROLES: Final = {
    "Global Administrator": "62e90394-69f5-4237-9190-012177145e10",
    "Privileged Role Administrator": "e8611ab8-c189-46e8-94e1-60213ab1f814",
    "Application Administrator": "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3",
    "User Administrator": "fe930be7-5e62-47db-91af-98c3a49a38b1",
    "Helpdesk Administrator": "729827e3-9c14-49f7-bb1b-9608f156bbb8",
    "Global Reader": "f2ef992c-3afb-46b9-b7cf-a126ee74c451",
}
"""Built-in roles, under the ids that they have in every tenant."""

PEOPLE: Final = (
    # name, department, country, manager, days since the last sign-in (None: never), licences
    ("ada", "Board", "Sweden", None, 1, (E5,)),
    ("bo", "IT", "Sweden", "ada", 2, (E5,)),
    ("cleo", "IT", "Germany", "bo", 3, (E5,)),
    ("dag", "IT", "Germany", "bo", 5, (E3,)),
    ("eva", "IT", "Ireland", "bo", 120, (E3,)),
    ("fay", "Sales", "Ireland", "ada", 7, (E3,)),
    ("gus", "Sales", "Ireland", "fay", 40, (E3,)),
    ("hal", "Sales", "Germany", "fay", 200, (E3, SKU_IDS["POWER_BI_STANDARD"])),
    ("ida", "Finance", "Sweden", "ada", 1, (E3,)),
    ("jon", "Finance", "Sweden", "ida", 1, (E3,)),
    ("kim", "Finance", "France", "ida", None, (E3,)),
    ("lea", "Research", "France", "ada", 4, (E5,)),
    ("max", "Research", "France", "lea", 15, ()),
    ("nia", "Research", "France", "lea", 2, ()),
    ("ole", "Support", "Sweden", "bo", 1, ()),
    ("pia", "Support", "Sweden", "ole", 6, ()),
    ("quin", "Support", "Germany", "ole", 9, ()),
    ("ria", "Legal", "Sweden", "ada", 95, (E3,)),
    ("sam", "Legal", "Sweden", "ria", 31, (E3,)),
    ("tess", "IT", "Sweden", "bo", 800, (E3,)),
    ("uwe", "Sales", "Germany", "tess", 300, (E3,)),
    ("vera", "Sales", "Sweden", "fay", 12, ()),
)
SYNCED = frozenset({"cleo", "gus", "hal", "ida", "jon", "ria"})
DISABLED = frozenset({"tess", "uwe"})
"""Who left, with licences, a membership, a role and a group."""
GUESTS: Final = (
    # name, home domain, redeemed
    ("wes", "partner.example", True),
    ("xia", "partner.example", True),
    ("yan", "supplier.example", False),
    ("zoe", "mail.example", False),
)
ACCOUNTS: Final = (
    # Accounts that are nobody's: a room, a shared mailbox, a service, break glass.
    ("room", "Room Aurora"),
    ("post", "Shared mailbox of Support"),
    ("robot", "Backup service"),
    ("glass", "Break glass"),
)

STORY_GROUPS: Final[tuple[tuple[str, Props], ...]] = (
    ("admins", {"isAssignableToRole": True}),
    ("rescue", {"isAssignableToRole": True}),
    ("helpers", {"isAssignableToRole": True}),
    ("it", {"description": "Everybody in IT"}),
    ("north", {}),
    ("south", {}),
    ("everyone", {}),
    ("ring", {}),
    ("ring back", {}),
    ("deep", {}),
    ("board room", {"visibility": "Private"}),
    ("open house", {"visibility": "Public"}),
    ("self service", {}),
    ("stopped rule", {}),
    ("empty", {}),
    ("gone people", {}),
    ("partners", {}),
    ("licensed", {}),
)
UNIFIED = frozenset({"board room", "open house"})
DYNAMIC: Final = {
    "self service": ('(user.mobilePhone -startsWith "+46")', "On"),
    "stopped rule": ('(user.department -eq "Sales")', "Paused"),
}
"""Rules: one reads what people may change themselves, the other has not run for long."""

MEMBERS: Final = (
    # group, members; after the colon the type, if it is no user
    ("admins", "bo", "cleo"),
    ("rescue", "glass", "partner app:servicePrincipal"),
    ("helpers", "it:group", "pia"),
    ("it", "bo", "cleo", "dag", "eva", "tess"),
    # A diamond: Fay is in everyone by two ways.
    ("north", "fay", "gus", "hal"),
    ("south", "fay", "vera"),
    ("everyone", "north:group", "south:group", "it:group"),
    # A cycle, and a group in itself by way of the other.
    ("ring", "ring back:group", "max"),
    ("ring back", "ring:group", "nia"),
    ("deep", "everyone:group"),
    ("board room", "ada", "ria", "wes"),
    # A Microsoft 365 group in which a group is nested.
    ("open house", "partners:group", "ole"),
    ("self service", "jon"),
    ("stopped rule", "fay", "gus"),
    ("gone people", "tess", "uwe"),
    ("partners", "wes", "xia", "yan"),
    ("licensed", "ida", "jon", "kim", "laptop:device"),
)
OWNERS: Final = (
    ("admins", "ada"),
    ("rescue", "ada"),
    # Who is no administrator may put himself into a group that holds a role.
    ("helpers", "ole"),
    ("it", "bo"),
    ("north", "fay"),
    # The only owner is disabled.
    ("south", "tess"),
    ("everyone", "bo", "owner app:servicePrincipal"),
    # The only owner is deleted.
    ("deep", "leaver"),
    ("board room", "ada", "wes"),
    ("open house", "ole"),
    ("partners", "fay"),
    ("licensed", "ida"),
)
