"""What somebody should look at or mend: a row for each finding, with a code and a sentence."""

from collections.abc import Sequence
from typing import Final

from migrations.views.finding_kind import FindingKind
from migrations.views.findings_of_people import ACCOUNT_FINDINGS, ROLE_FINDINGS
from migrations.views.findings_of_things import (
    APPLICATION_FINDINGS,
    GROUP_FINDINGS,
    LICENSE_FINDINGS,
)
from migrations.views.view import CUSTOMER, AnalyticsView, Column

FINDING_KINDS: Final = (
    ACCOUNT_FINDINGS + ROLE_FINDINGS + GROUP_FINDINGS + APPLICATION_FINDINGS + LICENSE_FINDINGS
)


def _render_columns(finding: FindingKind) -> str:
    needs = ", ".join(f"'{one}'" for one in finding.needs)
    object_type, object_id, object_name = finding.about.split(", ", 2)
    return f"""'{finding.code}'::text as code, '{finding.severity}'::text as severity,
              {object_type}::text as object_type, {object_id} as object_id,
              {object_name} as object_name,
              {finding.sentence} as sentence, {finding.since} as since,
              array[{needs}] as needs"""


def _render_kind(finding: FindingKind) -> str:
    """Return a query of its own: a filter by code leaves out all others when it is planned."""
    return f"""select t.connection_id, {_render_columns(finding)}
         {finding.source}
        where {finding.where}"""


def _render_kinds(source: str, findings: Sequence[FindingKind]) -> str:
    """Return a query of all kinds of one source, which reads it once.

    A filter by code leaves out the others when it is planned, and the source with them if none is
    left.
    """
    each = "\n               union all\n              ".join(
        f"select {_render_columns(one)}\n                from {one.beside} where {one.where}"
        for one in findings
    )
    return f"""select t.connection_id, x.*
         {source}
        cross join lateral (
              {each}) x
        where {" or ".join(f"({one.where})" for one in findings)}"""


def _render_found() -> str:
    shared: dict[str, list[FindingKind]] = {}
    for one in FINDING_KINDS:
        if one.beside:
            shared.setdefault(one.source, []).append(one)
    queries = [
        *(_render_kind(one) for one in FINDING_KINDS if not one.beside),
        *(_render_kinds(source, findings) for source, findings in shared.items()),
    ]
    return "\n        union all\n       ".join(queries)


FINDINGS: Final = AnalyticsView(
    "findings",
    "What somebody should look at or mend, one row for each finding. A kind of finding has no rows"
    " while a resource that it needs is off, refused or not read yet",
    (
        *CUSTOMER,
        Column(
            "code",
            "t.code",
            "the kind of finding: " + ", ".join(one.code for one in FINDING_KINDS),
        ),
        Column("severity", "t.severity", "high, medium or low"),
        Column(
            "severity_rank",
            "case t.severity when 'high' then 1 when 'medium' then 2 else 3 end",
            "the severity as a number to order by: 1 is high, 2 medium, 3 low",
        ),
        Column(
            "object_type",
            "t.object_type",
            "what it is about: user, group, service_principal, license or organization",
        ),
        Column("object_id", "t.object_id", "the id of the object", personal=True),
        Column("object_name", "t.object_name", "its name, or its id without one", personal=True),
        Column(
            "sentence",
            "t.object_name || ' ' || t.sentence",
            "what is found, in words",
            personal=True,
        ),
        Column(
            "since",
            "t.since",
            "since when, as Graph gives it; null where that is not known",
            personal=True,
        ),
    ),
    f"""
  from ({_render_found()}) t
  join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
  join (select f.connection_id, array_agg(f.resource) as readable
          from analytics.freshness f
         where f.fresh_at is not null and f.phase not in ('off', 'refused', 'not_licensed')
         group by f.connection_id) k
    on k.connection_id = t.connection_id and k.readable @> t.needs
""",
    key=("connection_id", "code", "object_id", "sentence"),
)
