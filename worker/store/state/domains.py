"""Stores the domains of a tenant, as the names of its objects show them."""

from typing import Final

from sqlalchemy import text

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from worker.store.lease import Transaction

_SAMPLE: Final = 20_000
"""Most objects that are read: by random keys, so that every domain of some use is among them."""
_MOST: Final = 200
"""Most domains that are stored."""


def note_domains(tx: Transaction, resource: Resource) -> None:
    """Store the domains in the names of a resource that was just walked, if it has such names.

    Only a domain that the tenant has verified stands in them.
    """
    column = next((one.name for one in resource.columns if one.ends_with_domain), None)
    if column is not None:
        values = {"id": tx.connection_id, "sample": _SAMPLE, "most": _MOST}
        tx.db.execute(text(_render_statement(resource, column)), values)


def _render_statement(resource: Resource, column: str) -> str:
    """Return a statement that reads live rows by the table's key, and writes only what is new."""
    key = ", ".join(resource.key)
    return f"""
        with named as (
            select lower(split_part({column}, '@', -1)) as domain
              from (select {column} from {DIRECTORY}.{resource.name}
                     where {OWNER} = :id and deleted_at is null
                     order by {OWNER}, {key} limit :sample) few
             where {column} like '%@%.%'),
        found as (
            select array(select domain from named group by domain
                          order by count(*) desc, domain limit :most) as domains)
        update sync.connections c set domains = found.domains
          from found where c.id = :id and c.domains is distinct from found.domains
    """
