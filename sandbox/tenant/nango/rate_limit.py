"""Nango's rate limit: a number of calls in windows of fixed length."""

from math import floor
from time import time

from sandbox.tenant.budget_window import BudgetWindow
from sandbox.tenant.errors import NangoError
from sandbox.tenant.http import Request, Response, build_nango_error


class NangoRateLimit:
    """Counts the calls of one account."""

    def __init__(self) -> None:
        self._window = BudgetWindow()

    def count_call(self, length: float) -> None:
        """Count one call."""
        self._window.renew_if_over(length)
        self._window.spent += 1

    def build_headers(self, limit: int) -> dict[str, str]:
        return {
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(max(limit - self._window.spent, 0)),
            "x-ratelimit-reset": str(floor(time() + self._window.seconds_left)),
        }

    def build_refusal(self, request: Request, limit: int) -> Response | None:
        """Return the 429 for a call beyond the limit, or None; its Retry-After may be 0."""
        if self._window.spent <= limit:
            return None
        where = {"method": request.method, "path": request.path}
        response = build_nango_error(NangoError(429, "too_many_request", **where))
        response.headers["retry-after"] = str(floor(self._window.seconds_left))
        return response
