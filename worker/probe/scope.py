"""What of a tenant is asked for: nothing that its customer does not want mirrored."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from models.resource import Resource


@dataclass(frozen=True)
class ProbeScope:
    """The resources that are off, and what is left out of the others."""

    off: frozenset[str] = frozenset()
    left_out: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Graph properties, and relations that carry edges, by resource."""

    def includes(self, resource: Resource) -> bool:
        """Whether the resource is on."""
        return resource.name not in self.off

    def list_left_out(self, resource: Resource) -> Collection[str]:
        """Return the properties and relations that no request names."""
        return self.left_out.get(resource.name, ())
