"""A simulated Microsoft 365 tenant."""

from random import Random

from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.mutations import MutableDirectory
from sandbox.tenant.directory.random_changes import RandomChanges


class Tenant(MutableDirectory):
    """A directory that also changes at random."""

    def mutate(self, n: int = 1, rng: Random | None = None) -> None:
        """Make `n` plausible changes over all resources."""
        with self.lock:
            self.mutation_count += 1
            changes = RandomChanges(
                self, rng or Random(guid_from_parts(self.seed, self.mutation_count))
            )
            for _ in range(n):
                changes.apply_next()
