"""What somebody should look at or mend: a row for each finding, with a code and a sentence."""

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


def _render_kind(finding: FindingKind) -> str:
    """Return a query of its own: a filter by code leaves out all others when it is planned."""
    code, severity = f"'{finding.code}'::text", f"'{finding.severity}'::text"
    needs = ", ".join(f"'{one}'" for one in finding.needs)
    object_type, object_id, object_name = finding.about.split(", ", 2)
    return f"""select t.connection_id, {code} as code, {severity} as severity,
              {object_type} as object_type, {object_id} as object_id,
              {object_name} as object_name,
              {finding.sentence} as sentence, {finding.since} as since,
              array[{needs}] as needs
         {finding.source}
        where {finding.where}"""


def _render_found() -> str:
    return "\n        union all\n       ".join(_render_kind(one) for one in FINDING_KINDS)


FINDINGS: Final = AnalyticsView(
    "findings",
    "What somebody should look at or mend, a row for each finding; none where a resource that it is"
    " told from is off, refused or not read yet",
    (
        *CUSTOMER,
        Column(
            "code",
            "t.code",
            "the kind of finding: " + ", ".join(one.code for one in FINDING_KINDS),
        ),
        Column("severity", "t.severity", "high, medium or low"),
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
