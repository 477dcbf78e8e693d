"""The objects of one tenant and the log of their changes, by resource."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from threading import RLock

from models.resources import RESOURCES
from sandbox.tenant.directory.clock import TenantClock
from sandbox.tenant.directory.fields import (
    APP_ROLE_ASSIGNMENTS,
    FIELDS,
    GROUPS,
    KINDS,
    OTHER_APP_ROLES,
    OTHERS,
    ROLE_ASSIGNMENTS,
    ROLE_DEFINITIONS,
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
from sandbox.tenant.directory.templates.generic import generic_template
from sandbox.tenant.directory.templates.groups import group_template
from sandbox.tenant.directory.templates.sites import site_template
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.directory.templates.users import user_template
from sandbox.tenant.directory.tokens import TokenCodec, TokenCursor

LoggedChange = frozenset[str] | Member | LoggedEdge | None
"""Changed properties, or a changed membership or other edge; None for a creation, deletion or
restore."""


class Stores(ABC):
    """The stores of a tenant, filled by what is derived from it."""

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
        self.generated_truths: dict[str, tuple[RenderedTemplates, int]] = {}
        """The generated rows of each resource and their sum, once they are computed."""
        self.sign_ins = SignIns(seed, self.users, generated=self.kinds.sign_ins)
        self._make_roles(role_definitions, role_assignments)
        self._make_further(role_definitions)
        self.edges: dict[str, Edges] = {one.resource: one for one in self._make_edges()}
        """The relations of the directory, by the resource of their edges."""

    @abstractmethod
    def _make_roles(self, definitions: int, assignments: int) -> None:
        """Make role definitions and assignments."""

    @abstractmethod
    def _make_further(self, definitions: int) -> None:
        """Make what only some tenants have, as `kinds` tells."""

    @abstractmethod
    def _make_edges(self) -> Iterable[Edges]:
        """Yield the relations between the objects."""

    def _make_principals(self) -> None:
        for number in range(self.kinds.service_principals):
            made = applications.make_service_principal(self.seed, number, self.tenant_id)
            self.service_principals.add(made, made["id"])
        own = [
            props
            for props in map(self.service_principals.props_at, range(self.service_principals.total))
            if props.get("appOwnerOrganizationId") == self.tenant_id
        ]
        for number, principal in enumerate(own[: self.kinds.applications]):
            made = applications.make_application(self.seed, number, self.domain, principal)
            self.further["applications"].add(made, made["id"])

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

    @property
    def resources(self) -> tuple[str, ...]:
        """The resources with an object store."""
        return tuple(self._stores)

    def store(self, resource: str) -> ObjectStore:
        """Return the objects of a resource; group_members have none.

        All app roles are in one store.
        """
        name = APP_ROLE_ASSIGNMENTS.resource if resource == OTHER_APP_ROLES else resource
        return self._stores[name]

    def index_of(self, resource: str, object_id: str) -> int:
        """Return the index of an existing object, live or not."""
        index = self.store(resource).index_of(object_id)
        if index is None or self.store(resource).state_at(index) is LifecycleState.PURGED:
            raise LookupError(f"There is no {object_id} in {resource}.")
        return index

    @staticmethod
    def is_live(shelf: ObjectStore, index: int) -> bool:
        return shelf.state_at(index) is LifecycleState.LIVE

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
