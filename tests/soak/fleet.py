"""The simulated customers: tenants of many sizes, connected to one simulated Nango."""

from dataclasses import dataclass
from random import Random
from typing import Final

from sandbox.tenant import Nango, NangoConnection, Tenant, TenantOptions

BIG_USERS: Final = 3000
OPTION_SETS: Final[tuple[dict[str, object], ...]] = (
    {},
    {},
    {"delta_page_size": 20, "list_page_size": 25, "members_per_entry": 10},
    {"empty_page_every": 3, "repeat_every": 4},
    {"removals_on_delete": True},
    {"readd_on_restore": False},
    {
        "initial_tombstones": True,
        "expired_delta_code": "resyncRequired",
        "expired_token_location": False,
    },
    {"requires_role_filter": True},
    {"mutations_between_items": 1},
    {"site_page_size": 5, "role_page_size": 5},
)
"""How tenants differ from Graph's usual behaviour; customers take them in turn."""


@dataclass
class Customer:
    """A tenant, and the connection it has in Nango, if any."""

    name: str
    tenant: Tenant
    options: str = ""
    is_connected: bool = True
    reconnect_count: int = 0
    """How often it came back as a new connection."""

    @property
    def connection_id(self) -> str:
        """What Nango calls its connection."""
        return f"{self.name}-{self.reconnect_count}" if self.reconnect_count else self.name


class Fleet:
    """All customers. Everything random comes from the generator that was given."""

    def __init__(self, nango: Nango, rng: Random, *, tenants: int, big: int = BIG_USERS) -> None:
        self.nango, self.mutation_count = nango, 0
        self.customers = [self._customer(n, rng, big) for n in range(tenants)]
        self._mutations_between_items = {
            customer.name: customer.tenant.options.mutations_between_items
            for customer in self.customers
        }

    def _customer(self, number: int, rng: Random, big: int) -> Customer:
        users = big if number == 0 else rng.randint(20, 400)
        habits = OPTION_SETS[number % len(OPTION_SETS)]
        tenant = Tenant(
            seed=rng.randrange(1, 2**31),
            users=users,
            groups=2 + users // 15,
            sites=rng.randint(3, 40),
            role_definitions=rng.randint(4, 20),
            role_assignments=rng.randint(2, 30),
            display_name=f"Customer {number}",
            options=TenantOptions(**habits),  # type: ignore[arg-type]
        )
        name = f"customer-{number:02}"
        self.nango.add_connection(name, tenant)
        return Customer(name, tenant, ", ".join(habits))

    @property
    def connected_customers(self) -> list[Customer]:
        return [customer for customer in self.customers if customer.is_connected]

    def get_connection(self, customer: Customer) -> NangoConnection:
        """Its connection in Nango. Raises LookupError where it is disconnected."""
        found = self.nango.find(customer.connection_id)
        if found is None:
            raise LookupError(f"{customer.name} is not connected")
        return found

    def mutate(self, customer: Customer, number: int) -> None:
        customer.tenant.mutate(number)
        self.mutation_count += number

    def disconnect(self, customer: Customer) -> None:
        self.nango.remove_connection(customer.connection_id)
        customer.is_connected = False

    def reconnect(self, customer: Customer, *, anew: bool = False) -> None:
        """Connect it again: as it was, or anew, as Nango does unless it is told an id."""
        if not customer.is_connected:
            customer.reconnect_count += anew
            self.nango.add_connection(customer.connection_id, customer.tenant)
            customer.is_connected = True

    def stop_changes(self) -> None:
        """From now on no tenant changes by itself, and nobody is refused anything."""
        for customer in self.customers:
            self.reconnect(customer)
            self.get_connection(customer).refused_resources.clear()
            customer.tenant.options.mutations_between_items = 0

    def start_changes(self) -> None:
        """Tenants that change while they are read do so again."""
        for customer in self.customers:
            customer.tenant.options.mutations_between_items = self._mutations_between_items[
                customer.name
            ]

    def delete_many(self, customer: Customer, rng: Random) -> int:
        """Delete so many users that a person will be asked; as many new ones come."""
        tenant = customer.tenant
        with tenant.lock:
            live = [tenant.users.id_at(index) for index in tenant.users.iterate_live()]
            going = rng.sample(live, max(1, len(live) * rng.randint(25, 40) // 100))
            for user_id in going:
                tenant.delete_user(user_id)
            for _ in going:
                tenant.create_user()
        self.mutation_count += 2 * len(going)
        return len(going)
