"""The state of one tenant: its directory, its log of changes, and the truth.

Responses read the state at the time they are served. Mutations go to a log, which delta rounds read
from a position on. Every method may be called from any thread.
"""

from collections.abc import Iterator
from threading import RLock
from typing import Any

from models.resources import RESOURCES
from sandbox.tenant.directory import truth as truths
from sandbox.tenant.directory.fields import (
    FIELDS,
    GROUPS,
    OTHERS,
    ROLE_ASSIGNMENTS,
    ROLE_DEFINITIONS,
    SITES,
    USERS,
)
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.members import Member, Members
from sandbox.tenant.directory.object_store import LifecycleState, ObjectStore, RenderedTemplates
from sandbox.tenant.directory.options import TenantOptions
from sandbox.tenant.directory.resource_units import ResourceUnits
from sandbox.tenant.directory.templates.generic import generic_template
from sandbox.tenant.directory.templates.groups import HIDDEN_MEMBERSHIP, group_template
from sandbox.tenant.directory.templates.roles import make_assignment, make_definition
from sandbox.tenant.directory.templates.sites import site_template
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.directory.templates.users import user_template
from sandbox.tenant.directory.tokens import TokenCodec, TokenCursor
from sandbox.tenant.directory.truth import Truth

LoggedChange = frozenset[str] | Member | None
"""Changed properties, or a changed membership; None for a creation, deletion or restore."""


class Directory:
    """The state of a tenant, without mutations."""

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
        others: int = 0,
        tenant_id: str | None = None,
        display_name: str = "Contoso",
        domain: str = "contoso.example",
        epoch: int = 1,
        page_cache: int = 0,
        options: TenantOptions | None = None,
    ) -> None:
        self.seed, self.display_name, self.domain = seed, display_name, domain
        self.tenant_id = tenant_id or guid_from_parts(seed, "tenant")
        self.options = options or TenantOptions()
        self.lock = RLock()
        self.delta_epoch = self.page_epoch = epoch
        self.throttle = ResourceUnits()
        self.loop_starts: dict[str, TokenCursor] = {}
        """The cursors at which loops of walks begin."""
        self.token_issue_times: dict[str, float] = {}
        """When each token was issued, if an option limits their lifetimes."""
        self.tokens = TokenCodec(f"{seed}/{self.tenant_id}".encode()[:64])
        self.users = ObjectStore(
            seed, USERS, users, user_template(domain), templates=1009, cached_pages=page_cache
        )
        self.groups = ObjectStore(
            seed,
            GROUPS,
            groups,
            group_template(domain, hidden=hidden_groups),
            templates=251,
            cached_pages=page_cache,
        )
        self.sites = ObjectStore(
            seed, SITES, sites, site_template(domain), templates=127, cached_pages=page_cache
        )
        self.role_definitions = ObjectStore(seed, ROLE_DEFINITIONS)
        self.role_assignments = ObjectStore(seed, ROLE_ASSIGNMENTS)
        self.others = tuple(
            ObjectStore(
                seed,
                one,
                others,
                generic_template(one.declared),
                templates=61,
                cached_pages=page_cache,
            )
            for one in OTHERS
        )
        """The objects of resources that have no templates of their own."""
        self._stores = {
            shelf.fields.resource: shelf
            for shelf in (
                self.users,
                self.groups,
                self.sites,
                self.role_definitions,
                self.role_assignments,
                *self.others,
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
        self.change_log: dict[str, list[tuple[int, LoggedChange]]] = {
            name: [] for name, fields in FIELDS.items() if fields.declared.source.follows_delta
        }
        self.mutation_count = 0
        """Calls of `mutate`, so that each makes different changes."""
        self._generated_truths: dict[str, tuple[RenderedTemplates, int]] = {}
        self._make_roles(role_definitions, role_assignments)

    def _make_roles(self, definitions: int, assignments: int) -> None:
        for number in range(definitions):
            role = make_definition(self.seed, number, built_in=number % 4 != 3)
            self.role_definitions.add(role, role["id"])
        if not (definitions and self.users.generated_count):
            return
        for number in range(assignments):
            role_id = self.role_definitions.id_at(number * 5 % definitions)
            principal_id = self.users.id_at(number * 17 % self.users.generated_count)
            scope = (
                f"/administrativeUnits/{guid_from_parts(self.seed, number)}" if number % 3 else "/"
            )
            self._put_assignment(role_id, principal_id, scope)

    def _put_assignment(self, role_id: str, principal_id: str, scope: str) -> str:
        props = make_assignment(role_id, principal_id, scope, self.tenant_id)
        index = self.role_assignments.index_of(props["id"])
        if index is None:
            self.role_assignments.add(props, props["id"])
        else:
            self.role_assignments.edit(index).state = LifecycleState.LIVE
        return str(props["id"])

    @property
    def resources(self) -> tuple[str, ...]:
        """The resources with an object store."""
        return tuple(self._stores)

    def store(self, resource: str) -> ObjectStore:
        """Return the objects of a resource; group_members have none."""
        return self._stores[resource]

    def index_of(self, resource: str, object_id: str) -> int:
        """Return the index of an existing object, live or not."""
        index = self.store(resource).index_of(object_id)
        if index is None or self.store(resource).state_at(index) is LifecycleState.PURGED:
            raise LookupError(f"There is no {object_id} in {resource}.")
        return index

    def is_end_live(self, member: Member) -> bool:
        """Whether the member is live; members that are not simulated always are."""
        if member.type not in ("user", "group"):
            return True
        shelf = self.users if member.type == "user" else self.groups
        index = shelf.index_of(member.id)
        return index is not None and shelf.state_at(index) is LifecycleState.LIVE

    def iterate_live_members(self, group: int) -> Iterator[Member]:
        return (
            member for member in self.members.iterate_members(group) if self.is_end_live(member)
        )

    def has_visible_members(self, group: int) -> bool:
        """Whether Graph shows the members of a group."""
        if not self.options.hide_hidden_members:
            return True
        return self.groups.props_at(group).get("visibility") != HIDDEN_MEMBERSHIP

    # -- the truth ---------------------------------------------------------------------------

    def iterate_live(self, resource: str) -> Iterator[dict[str, Any]]:
        """Yield the live objects as Graph lists them with every mirrored property selected.

        For group_members: `groupId`, `@odata.type` and `id` of each live edge.
        """
        if resource == "group_members":
            yield from self._iterate_edges()
            return
        shelf = self.store(resource)
        for index in shelf.iterate_live():
            yield self.read_object(resource, index)

    def read_object(self, resource: str, index: int) -> Props:
        shelf = self.store(resource)
        props = shelf.props_at(index)
        if resource == "sites":
            return dict(props)
        return {name: props.get(name) for name in shelf.fields.generated}

    def _iterate_edges(self, *, hidden: bool = True) -> Iterator[Props]:
        for group in self.groups.iterate_live():
            if not hidden and not self.has_visible_members(group):
                continue
            group_id = self.groups.id_at(group)
            for member in self.iterate_live_members(group):
                kind = f"#microsoft.graph.{member.type}"
                yield {"groupId": group_id, "@odata.type": kind, "id": member.id}

    def truth(self, *, hidden: bool = True) -> dict[str, Truth]:
        """Return count and checksum of each resource, as the module `truth` defines them.

        Without `hidden`, members that `TenantOptions.hide_hidden_members` hides are left out.
        """
        with self.lock:
            return {
                resource: self._compute_truth(resource, hidden=hidden) for resource in RESOURCES
            }

    def _compute_truth(self, resource: str, *, hidden: bool) -> Truth:
        if resource == "group_members":
            edges = self._iterate_edges(hidden=hidden)
            return truths.truth_from_rows(truths.build_row(resource, edge) for edge in edges)
        shelf = self.store(resource)
        parts, total = self._compute_generated_truth(resource)
        for index, entity in shelf.overlay.items():
            if index < shelf.generated_count:
                total -= truths.hash_row(parts.render_range(index, index + 1)[0])
            if entity.state is LifecycleState.LIVE:
                total += truths.hash_row(
                    truths.render_row(truths.build_row(resource, entity.props))
                )
        return Truth(shelf.count_live(), total % truths.MODULUS)

    def _compute_generated_truth(self, resource: str) -> tuple[RenderedTemplates, int]:
        """Return the generated rows and their sum, which mutations do not change."""
        found = self._generated_truths.get(resource)
        if found is None:
            shelf = self.store(resource)
            parts = shelf.render_templates(
                lambda p: truths.render_row(truths.build_row(resource, p))
            )
            total = 0
            for start in range(0, shelf.generated_count, 10_000):
                texts = parts.render_range(start, min(start + 10_000, shelf.generated_count))
                total += sum(map(truths.hash_row, texts))
            found = self._generated_truths[resource] = parts, total
        return found

    # -- time ----------------------------------------------------------------------------------

    def expire_delta_tokens(self) -> None:
        """Let all delta tokens, and page tokens of delta rounds, get 410 from now on."""
        with self.lock:
            self.delta_epoch += 1

    def expire_page_tokens(self) -> None:
        """Let all page tokens of lists get 400 Directory_ExpiredPageToken from now on."""
        with self.lock:
            self.page_epoch += 1
