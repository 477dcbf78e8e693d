"""One tenant: what is in its directory, what happened to it, and the truth about it.

All that is served is read from here at the time it is served. Mutations go to a log, which delta
rounds read from a position on. Every method may be called from any thread.
"""

from collections.abc import Iterator
from threading import RLock
from typing import Any

from sandbox.tenant import truth as truths
from sandbox.tenant.fields import (
    GROUPS,
    RESOURCES,
    ROLE_ASSIGNMENTS,
    ROLE_DEFINITIONS,
    SITES,
    USERS,
)
from sandbox.tenant.ids import guid_from
from sandbox.tenant.knobs import Knobs
from sandbox.tenant.members import Member, Members
from sandbox.tenant.people import make_user
from sandbox.tenant.places import make_site
from sandbox.tenant.roles import make_assignment, make_definition
from sandbox.tenant.shelf import Parts, Props, Shelf, State
from sandbox.tenant.teams import HIDDEN, make_group
from sandbox.tenant.throttle import Throttle
from sandbox.tenant.tokens import Cursor, Tokens
from sandbox.tenant.truth import Truth

Change = frozenset[str] | Member | None
"""Properties that changed; a membership that did; None when the object came, went or returned."""


class Directory:
    """The state of a tenant, without the ways to change it."""

    def __init__(
        self,
        *,
        seed: int = 1,
        users: int = 100,
        groups: int = 10,
        members_per_group: int = 8,
        big_groups: int = 0,
        big_group_members: int = 0,
        hidden_groups: bool = True,
        sites: int = 12,
        role_definitions: int = 12,
        role_assignments: int = 8,
        tenant_id: str | None = None,
        display_name: str = "Contoso",
        domain: str = "contoso.example",
        epoch: int = 1,
        page_cache: int = 0,
        knobs: Knobs | None = None,
    ) -> None:
        self.seed, self.display_name, self.domain = seed, display_name, domain
        self.tenant_id = tenant_id or guid_from(seed, "tenant")
        self.knobs = knobs or Knobs()
        self.lock = RLock()
        self.delta_epoch = self.page_epoch = epoch
        self.throttle = Throttle()
        self.loops: dict[str, Cursor] = {}
        """Where the cycles of walks begin."""
        self.issued: dict[str, float] = {}
        """When a token was written, while a knob limits their lives."""
        self.tokens = Tokens(f"{seed}/{self.tenant_id}".encode()[:64])
        self.users = Shelf(
            seed, USERS, users, make_user(domain), templates=1009, cached_pages=page_cache
        )
        self.groups = Shelf(
            seed,
            GROUPS,
            groups,
            make_group(domain, hidden=hidden_groups),
            templates=251,
            cached_pages=page_cache,
        )
        self.sites = Shelf(
            seed, SITES, sites, make_site(domain), templates=127, cached_pages=page_cache
        )
        self.role_definitions = Shelf(seed, ROLE_DEFINITIONS)
        self.role_assignments = Shelf(seed, ROLE_ASSIGNMENTS)
        self._shelves = {
            shelf.fields.resource: shelf
            for shelf in (
                self.users,
                self.groups,
                self.sites,
                self.role_definitions,
                self.role_assignments,
            )
        }
        self.members = Members(
            seed,
            self.users,
            self.groups,
            average=members_per_group,
            big=big_groups,
            big_size=big_group_members,
        )
        self.log: dict[str, list[tuple[int, Change]]] = {"users": [], "groups": []}
        self.mutated = 0
        """Calls of `mutate`, so that each makes other changes."""
        self._untouched: dict[str, tuple[Parts, int]] = {}
        self._make_roles(role_definitions, role_assignments)

    def _make_roles(self, definitions: int, assignments: int) -> None:
        for number in range(definitions):
            role = make_definition(self.seed, number, built_in=number % 4 != 3)
            self.role_definitions.add(role, role["id"])
        if not (definitions and self.users.base):
            return
        for number in range(assignments):
            role_id = self.role_definitions.id_at(number * 5 % definitions)
            principal_id = self.users.id_at(number * 17 % self.users.base)
            scope = f"/administrativeUnits/{guid_from(self.seed, number)}" if number % 3 else "/"
            self._keep_assignment(role_id, principal_id, scope)

    def _keep_assignment(self, role_id: str, principal_id: str, scope: str) -> str:
        props = make_assignment(role_id, principal_id, scope, self.tenant_id)
        index = self.role_assignments.index_of(props["id"])
        if index is None:
            self.role_assignments.add(props, props["id"])
        else:
            self.role_assignments.touch(index).state = State.LIVE
        return str(props["id"])

    @property
    def resources(self) -> tuple[str, ...]:
        """Those that have a shelf."""
        return tuple(self._shelves)

    def shelf(self, resource: str) -> Shelf:
        """The objects of a resource; group_members have none of their own."""
        return self._shelves[resource]

    def index(self, resource: str, object_id: str) -> int:
        """The index of an object that exists, live or not."""
        index = self.shelf(resource).index_of(object_id)
        if index is None or self.shelf(resource).state(index) is State.PURGED:
            raise LookupError(f"There is no {object_id} in {resource}.")
        return index

    def end_is_live(self, member: Member) -> bool:
        """Whether an edge to the member counts; ends that are not simulated always do."""
        if member.type not in ("user", "group"):
            return True
        shelf = self.users if member.type == "user" else self.groups
        index = shelf.index_of(member.id)
        return index is not None and shelf.state(index) is State.LIVE

    def live_members(self, group: int) -> Iterator[Member]:
        return (member for member in self.members.of(group) if self.end_is_live(member))

    def shows_members(self, group: int) -> bool:
        """Whether anybody may see who is in the group."""
        if not self.knobs.hide_hidden_members:
            return True
        return self.groups.props(group).get("visibility") != HIDDEN

    # -- the truth ---------------------------------------------------------------------------

    def live(self, resource: str) -> Iterator[dict[str, Any]]:
        """The live objects as Graph would list them with every mirrored property selected.

        Of group_members: `groupId`, `@odata.type` and `id` of each live edge.
        """
        if resource == "group_members":
            yield from self._edges()
            return
        shelf = self.shelf(resource)
        for index in shelf.live():
            yield self.object(resource, index)

    def object(self, resource: str, index: int) -> Props:
        shelf = self.shelf(resource)
        props = shelf.props(index)
        if resource == "sites":
            return dict(props)
        return {name: props.get(name) for name in shelf.fields.names}

    def _edges(self, *, hidden: bool = True) -> Iterator[Props]:
        for group in self.groups.live():
            if not hidden and not self.shows_members(group):
                continue
            group_id = self.groups.id_at(group)
            for member in self.live_members(group):
                kind = f"#microsoft.graph.{member.type}"
                yield {"groupId": group_id, "@odata.type": kind, "id": member.id}

    def truth(self, *, hidden: bool = True) -> dict[str, Truth]:
        """Count and checksum of each resource, as `truth` defines them.

        Not `hidden`: without the members that `Knobs.hide_hidden_members` keeps from everybody.
        """
        with self.lock:
            return {resource: self._truth(resource, hidden=hidden) for resource in RESOURCES}

    def _truth(self, resource: str, *, hidden: bool) -> Truth:
        if resource == "group_members":
            edges = self._edges(hidden=hidden)
            return truths.truth_of(truths.row_of(resource, edge) for edge in edges)
        shelf = self.shelf(resource)
        parts, total = self._generated_truth(resource)
        for index, entity in shelf.overlay.items():
            if index < shelf.base:
                total -= truths.digest(parts.texts(index, index + 1)[0])
            if entity.state is State.LIVE:
                total += truths.digest(truths.row_text(truths.row_of(resource, entity.props)))
        return Truth(shelf.live_count(), total % truths.MODULUS)

    def _generated_truth(self, resource: str) -> tuple[Parts, int]:
        """The rows as generated and their sum, which no mutation can change."""
        found = self._untouched.get(resource)
        if found is None:
            shelf = self.shelf(resource)
            parts = shelf.rendering(lambda p: truths.row_text(truths.row_of(resource, p)))
            total = 0
            for start in range(0, shelf.base, 10_000):
                texts = parts.texts(start, min(start + 10_000, shelf.base))
                total += sum(map(truths.digest, texts))
            found = self._untouched[resource] = parts, total
        return found

    # -- time ----------------------------------------------------------------------------------

    def expire_delta_tokens(self) -> None:
        """Every delta token, and every page token of a delta round, answers 410 from now on."""
        with self.lock:
            self.delta_epoch += 1

    def expire_page_tokens(self) -> None:
        """Every page token of a list answers 400 Directory_ExpiredPageToken from now on."""
        with self.lock:
            self.page_epoch += 1
