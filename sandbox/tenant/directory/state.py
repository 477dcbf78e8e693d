"""The state of one tenant: its directory, its log of changes, and the truth.

Responses read the state at the time they are served. Mutations go to a log, which delta rounds read
from a position on. Every method may be called from any thread.
"""

from collections.abc import Iterable, Iterator
from random import Random
from threading import RLock
from typing import Any

from models.resources import RESOURCES
from sandbox.tenant.directory import truth as truths
from sandbox.tenant.directory.clock import TenantClock
from sandbox.tenant.directory.few_edges import FewEdges, FirstObjects, Managers
from sandbox.tenant.directory.fields import (
    FIELDS,
    GROUPS,
    KINDS,
    MANAGERS,
    MEMBERS,
    OTHERS,
    OWNERS,
    ROLE_ASSIGNMENTS,
    ROLE_DEFINITIONS,
    SIGN_INS,
    SITES,
    USERS,
)
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.kind_counts import KindCounts
from sandbox.tenant.directory.members import Edges, LoggedEdge, Member, Members
from sandbox.tenant.directory.object_store import LifecycleState, ObjectStore, RenderedTemplates
from sandbox.tenant.directory.options import TenantOptions
from sandbox.tenant.directory.resource_units import ResourceUnits
from sandbox.tenant.directory.sign_ins import SignIns
from sandbox.tenant.directory.templates import applications
from sandbox.tenant.directory.templates.activations import make_eligibility, make_instance
from sandbox.tenant.directory.templates.generic import generic_template
from sandbox.tenant.directory.templates.groups import HIDDEN_MEMBERSHIP, group_template
from sandbox.tenant.directory.templates.licences import make_numbered_sku
from sandbox.tenant.directory.templates.roles import make_assignment, make_definition
from sandbox.tenant.directory.templates.sites import site_template
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.directory.templates.units import make_unit
from sandbox.tenant.directory.templates.users import SKUS, user_template
from sandbox.tenant.directory.tokens import TokenCodec, TokenCursor
from sandbox.tenant.directory.truth import Truth

LoggedChange = frozenset[str] | Member | LoggedEdge | None
"""Changed properties, or a changed membership or other edge; None for a creation, deletion or
restore."""
_FOREIGN = ("device", "orgContact")
PARENT_NAMES = {"groups": "groupId", "administrative_units": "unitId", "users": "userId"}
"""The name of the parent's id in an edge of `iterate_live`, by the parents' resource."""


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
        kinds: KindCounts | None = None,
        clock: TenantClock | None = None,
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
                generic_template(RESOURCES[one.resource]),
                templates=61,
                cached_pages=page_cache,
            )
            for one in OTHERS
        )
        """The objects of resources that have no templates of their own."""
        self.kinds, self.clock = kinds or KindCounts(), clock or TenantClock()
        self.further = {one.resource: ObjectStore(seed, one) for one in KINDS}
        """The objects of resources of which `KindCounts` tells the numbers."""
        self._make_principals()
        self._stores = {
            shelf.fields.resource: shelf
            for shelf in (
                self.users,
                self.groups,
                self.sites,
                self.role_definitions,
                self.role_assignments,
                *self.others,
                *self.further.values(),
            )
        }
        self.members = Members(
            seed,
            self.users,
            self.groups,
            self.service_principals,
            average=members_per_group,
            big=big_groups,
            big_size=big_group_members,
        )
        self.change_log: dict[str, list[tuple[int, LoggedChange]]] = {
            name: [] for name, fields in FIELDS.items() if fields.delta_path
        }
        self.mutation_count = 0
        """Calls of `mutate`, so that each makes different changes."""
        self.manager_changes = 0
        """Calls of `set_manager`."""
        self._generated_truths: dict[str, tuple[RenderedTemplates, int]] = {}
        self._make_roles(role_definitions, role_assignments)
        self._make_eligibilities(role_definitions)
        self._make_units_and_skus()
        self._make_permissions()
        self.sign_ins = SignIns(seed, self.users, generated=self.kinds.sign_ins)
        self.edges: dict[str, Edges] = {one.resource: one for one in self._make_edges()}
        """The relations of the directory, by the resource of their edges."""

    # -- what only some tenants have ---------------------------------------------------------

    @property
    def service_principals(self) -> ObjectStore:
        return self.further["service_principals"]

    @property
    def role_eligibilities(self) -> ObjectStore:
        return self.further["role_eligibility_schedule_instances"]

    @property
    def role_instances(self) -> ObjectStore:
        return self.further["role_assignment_schedule_instances"]

    @property
    def administrative_units(self) -> ObjectStore:
        return self.further["administrative_units"]

    def _make_edges(self) -> Iterable[Edges]:
        average, units = self.kinds.owners, self.administrative_units
        users, groups, principals = (
            FirstObjects.of(self.users, "user"),
            FirstObjects.of(self.groups, "group"),
            FirstObjects.of(self.service_principals, "servicePrincipal"),
        )

        def draw_owners(rng: Random) -> list[Member]:
            count = rng.randrange(2 * average + 1)
            applications = int(count > 1 and rng.random() < 0.2)
            return [*users.draw(rng, count - applications), *principals.draw(rng, applications)]

        def draw_unit(rng: Random) -> list[Member]:
            count = rng.randrange(2 * self.kinds.unit_members + 1)
            return [*users.draw(rng, count - count // 5), *groups.draw(rng, count // 5)]

        owned = self.groups.generated_count if average else 0
        yield self.members
        yield FewEdges(
            self.seed, "group_owners", OWNERS, self.groups, count=owned, draw=draw_owners
        )
        yield FewEdges(
            self.seed,
            "administrative_unit_members",
            MEMBERS,
            units,
            count=units.total,
            draw=draw_unit,
        )
        yield Managers(self.users, generated=self.kinds.managers)

    def _make_principals(self) -> None:
        for number in range(self.kinds.service_principals):
            made = applications.make_service_principal(self.seed, number, self.tenant_id)
            self.service_principals.add(made, made["id"])

    def _make_units_and_skus(self) -> None:
        for number in range(self.kinds.administrative_units):
            unit = make_unit(self.seed, number)
            self.administrative_units.add(unit, unit["id"])
        for number in range(self.kinds.skus):
            sku = make_numbered_sku(self.tenant_id, self.display_name, number, SKUS)
            self.further["subscribed_skus"].add(sku, sku["id"])

    def _make_permissions(self) -> None:
        """Make app role assignments and consents."""
        rng, principals = Random(f"{self.seed}/permissions"), self.service_principals
        if not principals.total:
            return
        graph = principals.props_at(0)
        for number in range(self.kinds.app_roles):
            principal = principals.props_at((number * 3 + 9) % principals.total)
            roles = graph["appRoles"]
            role = roles[(number // principals.total + number) % len(roles)]["id"]
            self._put_app_role(principal, "ServicePrincipal", graph, role)
        for _ in range(self.kinds.other_app_roles):
            self._put_app_role(*self._draw_app_role(rng))
        for _ in range(self.kinds.permission_grants):
            self._put_grant(*self._draw_grant(rng))

    def _draw_app_role(self, rng: Random) -> tuple[Props, str, Props, str]:
        """Return a principal, its type, an application that is not Microsoft Graph, and a role."""
        principals = self.service_principals
        resource = principals.props_at(
            rng.randrange(min(1, principals.total - 1), principals.total)
        )
        roles = [one["id"] for one in resource["appRoles"]] or [applications.NO_ROLE]
        kind, shelf = rng.choice(
            [
                (kind, shelf)
                for kind, shelf in (
                    ("User", self.users),
                    ("Group", self.groups),
                    ("ServicePrincipal", principals),
                )
                if shelf.total
            ]
        )
        return shelf.props_at(rng.randrange(shelf.total)), kind, resource, rng.choice(roles)

    def _draw_grant(self, rng: Random) -> tuple[str, str, str, str | None]:
        principals = self.service_principals
        scopes = rng.sample(applications.SCOPES, rng.randrange(1, 5))
        # Old consents begin with a blank.
        text = rng.choice(("", " ")) + " ".join(scopes)
        for_one = self.users.total and rng.random() < 0.5
        user = self.users.id_at(rng.randrange(self.users.total)) if for_one else None
        client = principals.id_at(rng.randrange(principals.total))
        return client, principals.id_at(0), text, user

    def put(self, resource: str, props: Props) -> str:
        """Add an object with a key of its own, or bring it back with these properties."""
        shelf, key = self.store(resource), str(props["id"])
        index = shelf.index_of(key)
        if index is None:
            index = shelf.add(props, key)
        else:
            entity = shelf.edit(index)
            entity.props, entity.state = props, LifecycleState.LIVE
        if resource in self.change_log:
            self.change_log[resource].append((index, None))
        return key

    def _put_app_role(self, principal: Props, kind: str, resource: Props, role_id: str) -> str:
        made = applications.make_app_role_assignment(
            principal, kind, resource, role_id, self.clock.render()
        )
        return self.put("app_role_assignments", made)

    def _put_grant(
        self, client_id: str, resource_id: str, scope: str, principal_id: str | None
    ) -> str:
        made = applications.make_grant(client_id, resource_id, scope, principal_id)
        return self.put("oauth2_permission_grants", made)

    def _make_eligibilities(self, definitions: int) -> None:
        if not (definitions and self.users.generated_count):
            return
        for number in range(self.kinds.eligibilities):
            made = make_eligibility(
                self.role_definitions.id_at(number * 7 % definitions),
                self.users.id_at(number * 13 % self.users.generated_count),
                "/",
                start=f"2026-01-{number % 28 + 1:02d}T00:00:00Z",
                end=None if number % 3 else "2036-01-01T00:00:00Z",
                member_type="Group" if number % 5 == 4 else "Direct",
            )
            self.put("role_eligibility_schedule_instances", made)

    def end_schedules(self) -> None:
        """End what is past its end by the tenant's clock: activations and eligibilities."""
        now = self.clock.render()
        for shelf in (self.role_eligibilities, self.role_instances):
            for index in list(shelf.iterate_live()):
                end = shelf.props_at(index)["endDateTime"]
                if end is not None and end[:19] < now[:19]:
                    self._end_schedule(shelf, index)

    def _end_schedule(self, shelf: ObjectStore, index: int) -> None:
        shelf.edit(index).state = LifecycleState.PURGED
        if shelf is self.role_instances:
            assignment = self.role_assignments.index_of(shelf.id_at(index))
            if assignment is not None:
                self.role_assignments.edit(assignment).state = LifecycleState.PURGED

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
        if self.kinds.pim:
            for shelf in (self.groups, self.service_principals):
                for index in range(min(shelf.total, 2)):
                    role_id = self.role_definitions.id_at((index + 1) % definitions)
                    self._put_assignment(role_id, shelf.id_at(index), "/")

    def _put_assignment(
        self,
        role_id: str,
        principal_id: str,
        scope: str,
        *,
        end: str | None = None,
        activated: bool = False,
    ) -> str:
        props = make_assignment(role_id, principal_id, scope, self.tenant_id)
        index = self.role_assignments.index_of(props["id"])
        if index is None:
            self.role_assignments.add(props, props["id"])
        else:
            self.role_assignments.edit(index).state = LifecycleState.LIVE
        if self.kinds.pim:
            start = self.clock.render() if activated else None
            made = make_instance(props, activated=activated, start=start, end=end)
            self.put("role_assignment_schedule_instances", made)
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
        if member.type in _FOREIGN:
            return True
        if member.type == "servicePrincipal":
            index = self.service_principals.index_of(member.id)
            # Others are not simulated.
            return index is None or self._is_live(self.service_principals, index)
        shelf = self.users if member.type == "user" else self.groups
        index = shelf.index_of(member.id)
        return index is not None and self._is_live(shelf, index)

    @staticmethod
    def _is_live(shelf: ObjectStore, index: int) -> bool:
        return shelf.state_at(index) is LifecycleState.LIVE

    def iterate_live_members(self, edges: Edges, parent: int) -> Iterator[Member]:
        return (member for member in edges.iterate_members(parent) if self.is_end_live(member))

    def shows(self, edges: Edges, parent: int) -> bool:
        """Whether Graph shows the edges of a group, a unit or a user."""
        if not self.options.hide_hidden_members or edges.relation != MEMBERS:
            return True
        return edges.parents.props_at(parent).get("visibility") != HIDDEN_MEMBERSHIP

    # -- the truth ---------------------------------------------------------------------------

    def iterate_live(self, resource: str) -> Iterator[dict[str, Any]]:
        """Yield the live objects as Graph lists them with every mirrored property selected.

        For edges: the parent's id as `groupId` (or `unitId`), `@odata.type` and `id` of each live
        edge. For managers: `id` and `manager`, and for sign_in_activity: `id` and
        `signInActivity`, of each live user that has it.
        """
        if resource == MANAGERS:
            yield from self._iterate_managers()
        elif resource == SIGN_INS:
            yield from self._iterate_sign_ins()
        elif resource in self.edges:
            yield from self._iterate_edges(self.edges[resource])
        else:
            shelf = self.store(resource)
            for index in shelf.iterate_live():
                yield self.read_object(resource, index)

    def read_object(self, resource: str, index: int) -> Props:
        shelf = self.store(resource)
        props = shelf.props_at(index)
        if resource == "sites":
            return dict(props)
        return {name: props.get(name) for name in shelf.fields.generated}

    def _iterate_edges(self, edges: Edges, *, hidden: bool = True) -> Iterator[Props]:
        parent_name = PARENT_NAMES[edges.parents.fields.resource]
        for parent in edges.parents.iterate_live():
            if not hidden and not self.shows(edges, parent):
                continue
            parent_id = edges.parents.id_at(parent)
            for member in self.iterate_live_members(edges, parent):
                kind = f"#microsoft.graph.{member.type}"
                yield {parent_name: parent_id, "@odata.type": kind, "id": member.id}

    def find_manager(self, user: int) -> Member | None:
        """Return the live manager of a user."""
        return next(self.iterate_live_members(self.edges[MANAGERS], user), None)

    def _iterate_managers(self) -> Iterator[Props]:
        for user in self.users.iterate_live():
            manager = self.find_manager(user)
            if manager:
                yield {"id": self.users.id_at(user), "manager": {"id": manager.id}}

    def _iterate_sign_ins(self) -> Iterator[Props]:
        for user in self.users.iterate_live():
            activity = self.sign_ins.get(user)
            if activity:
                yield {"id": self.users.id_at(user), "signInActivity": activity}

    def truth(self, *, hidden: bool = True, all_app_roles: bool = True) -> dict[str, Truth]:
        """Return count and checksum of each resource, as the module `truth` defines them.

        Without `hidden`, members that `TenantOptions.hide_hidden_members` hides are left out.
        Without `all_app_roles`, those that are not Microsoft Graph's are.
        """
        with self.lock:
            self.end_schedules()
            return {
                resource: self._compute_truth(resource, hidden=hidden, all_app_roles=all_app_roles)
                for resource in RESOURCES
            }

    def _compute_truth(self, resource: str, *, hidden: bool, all_app_roles: bool) -> Truth:
        if resource == "app_role_assignments" and not all_app_roles:
            return truths.truth_of(resource, self._iterate_graph_roles())
        if resource in (MANAGERS, SIGN_INS):
            return truths.truth_of(resource, self.iterate_live(resource))
        if resource in self.edges:
            return truths.truth_of(
                resource, self._iterate_edges(self.edges[resource], hidden=hidden)
            )
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

    def _iterate_graph_roles(self) -> Iterator[Props]:
        graph = {
            self.service_principals.id_at(index)
            for index in self.service_principals.iterate_live()
            if self.service_principals.props_at(index).get("appId") == applications.GRAPH
        }
        return (
            one for one in self.iterate_live("app_role_assignments") if one["resourceId"] in graph
        )

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
