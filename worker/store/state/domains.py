"""Finds the customers that have a domain, by the objects that are named after their domains."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from models.property import Property
from models.resource import OWNER, Resource
from models.resources import RESOURCES

_SAMPLE: Final = 25
"""Objects of a customer that are looked at: nearly all of them are named after the same domains."""

_NAMED_AFTER_DOMAINS: Final = tuple(
    (resource, one)
    for resource in RESOURCES.values()
    for one in resource.columns
    if one.ends_with_domain
)


def find_domain_owners(db: sa.Connection, domain: str) -> list[int]:
    """Return the connections whose tenant has a domain, as far as a few of its objects show it.

    Only a domain that a tenant has verified stands in the names of its objects.
    """
    if "." not in domain:
        return []
    return sorted(
        {
            number
            for resource, column in _NAMED_AFTER_DOMAINS
            for number in db.execute(
                text(_render_query(resource, column)), {"domain": domain, "sample": _SAMPLE}
            ).scalars()
        }
    )


def _render_query(resource: Resource, column: Property) -> str:
    """Return a query that reads a few rows of each connection by the table's key."""
    key = ", ".join(resource.key)
    return f"""
        select c.id from sync.connections c
         where exists (
               select from (
                   select {column.name} as name from {DIRECTORY}.{resource.name}
                    where {OWNER} = c.id order by {OWNER}, {key} limit :sample) few
                where lower(split_part(few.name, '@', -1)) = lower(:domain))
         order by c.id
    """
