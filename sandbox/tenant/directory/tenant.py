"""A simulated Microsoft 365 tenant."""

from random import Random

from sandbox.tenant.directory.further_mutations import FurtherMutations
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.random_changes import RandomChanges

_SECONDS = 60.0
"""The time between two changes, in a tenant whose time does not move by itself."""


class Tenant(FurtherMutations):
    """A directory that also changes at random."""

    def mutate(self, n: int = 1, rng: Random | None = None) -> None:
        """Make `n` plausible changes over all resources, a minute of the tenant's time each."""
        with self.lock:
            self.mutation_count += 1
            changes = RandomChanges(
                self, rng or Random(guid_from_parts(self.seed, self.mutation_count))
            )
            for _ in range(n):
                changes.apply_next()
                self.clock.tick(_SECONDS)
            self.end_schedules()
