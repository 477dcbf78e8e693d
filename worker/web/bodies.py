"""What actions of the API are asked with: one struct for each body."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from models.connection import ConnectionStatus
from models.resources import RESOURCES
from worker.conditions.condition import Code
from worker.operations.pause import MAX_REASON
from worker.web.mistakes import PRINTABLE

_MAX_ID: Final = 2**63 - 1

Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON, pattern=PRINTABLE)]
Moment = Annotated[datetime, Meta(tz=True)]
KnownResource = Annotated[str, Meta(max_length=60, extra_json_schema={"enum": [*RESOURCES]})]
ResourceKey = Annotated[str, Meta(max_length=60, pattern="^[a-z_]+$")]
Ids = Annotated[list[Annotated[int, Meta(ge=1, le=_MAX_ID)]], Meta(max_length=1000)]
Count = Annotated[int, Meta(ge=1, le=_MAX_ID)]


class SeenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was seen held of one resource."""

    count: Annotated[int, Meta(ge=0, le=_MAX_ID, description="the number that `/held` answered")]
    digest: Annotated[
        str,
        Meta(max_length=64, pattern="^[0-9a-f]+$", description="the digest that `/held` answered"),
    ]


class ResyncBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which resources to read, and how."""

    resources: Annotated[
        list[KnownResource], Meta(max_length=20, description="only these; none: all")
    ] = []
    full: Annotated[bool, Meta(description="read everything, instead of what changed")] = False


class PauseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a connection is paused, and until when."""

    reason: Annotated[Reason | None, Meta(description="shown with the pause")] = None
    until: Annotated[
        Moment | None, Meta(description="when it ends by itself; without it, by a resume")
    ] = None


class ResumeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A resume takes no parameters."""


class DecisionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was seen held; if anything else is held by then, nothing is done."""

    expected: Annotated[
        dict[ResourceKey, SeenBody],
        Meta(min_length=1, max_length=20, description="as `/held` answers it, by resource"),
    ]


class FilterBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which connections; what is left out matches all that are not retired."""

    conditions: Annotated[
        list[Code], Meta(max_length=25, description="only with one of these conditions")
    ] = []
    statuses: Annotated[
        list[ConnectionStatus], Meta(max_length=5, description="only with one of these statuses")
    ] = []
    text: Annotated[
        str,
        Meta(
            max_length=100,
            pattern=PRINTABLE,
            description="only with this in the name, Nango's id, tenant id or a domain, or as id",
        ),
    ] = ""
    attention: Annotated[bool, Meta(description="only what needs attention")] = False
    ids: Annotated[Ids | None, Meta(description="only these; null: all")] = None


Filter = Annotated[
    FilterBody,
    Meta(description='which connections; fields combine with "and", values of one with "or"'),
]
ExpectedCount = Annotated[
    Count | None,
    Meta(description="the number that the dry run said; needed without `dry_run`"),
]


class BulkResyncBody(ResyncBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A resync of all that match."""

    filter: Filter
    dry_run: Annotated[bool, Meta(description="only say how many, and what it costs")] = False
    expected_count: ExpectedCount = None


class BulkPauseBody(PauseBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pause of all that match."""

    filter: Filter
    dry_run: Annotated[bool, Meta(description="only say how many")] = False
    expected_count: ExpectedCount = None


class BulkResumeBody(ResumeBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A resume of all that match."""

    filter: Filter
    dry_run: Annotated[bool, Meta(description="only say how many")] = False
    expected_count: ExpectedCount = None
