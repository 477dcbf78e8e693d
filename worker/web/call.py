"""A request as its handler gets it: checked and decoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.api_token import Scope
from worker.web.context import WebContext
from worker.web.verify import Principal


@dataclass(frozen=True)
class Call:
    """A request to a route."""

    context: WebContext
    principal: Principal | None
    route: str
    """Method and path of the table."""
    request_id: str
    ids: Mapping[str, int]
    query: Any
    body: Any
    headers: Mapping[str, str]

    @property
    def sees_details(self) -> bool:
        """Whether more than a status word may be answered."""
        return self.principal is not None and Scope.READ in self.principal.scopes
