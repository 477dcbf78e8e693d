"""The routes of the pages about one connection."""

from typing import Final

from models.api_token import Scope
from worker.page.connection import ConnectionQuery, show_connection
from worker.page.connection_actions import (
    PauseForm,
    ResumeForm,
    ResyncForm,
    ResyncQuery,
    pause_connection,
    resume_connection,
    resync_connection,
    show_pause,
    show_resume,
    show_resync,
)
from worker.page.discovery import discover_now, show_discovery
from worker.page.held import DecisionForm, HeldPageQuery, approve_held, reject_held, show_held
from worker.page.page import NoForm, PageRoute
from worker.page.support_bundle import get_support_bundle

_ONE: Final = "/connections/{connection_id}"

CONNECTION_PAGES: Final = (
    PageRoute("GET", _ONE, Scope.READ, show_connection, ConnectionQuery),
    PageRoute("GET", f"{_ONE}/bundle", Scope.READ, get_support_bundle),
    PageRoute("GET", f"{_ONE}/held", Scope.READ, show_held, HeldPageQuery),
    PageRoute(
        "POST", f"{_ONE}/approve", Scope.OPERATE, approve_held, HeldPageQuery, form=DecisionForm
    ),
    PageRoute(
        "POST", f"{_ONE}/reject", Scope.OPERATE, reject_held, HeldPageQuery, form=DecisionForm
    ),
    PageRoute("GET", f"{_ONE}/resync", Scope.OPERATE, show_resync, ResyncQuery),
    PageRoute(
        "POST", f"{_ONE}/resync", Scope.OPERATE, resync_connection, ResyncQuery, form=ResyncForm
    ),
    PageRoute("GET", f"{_ONE}/pause", Scope.OPERATE, show_pause),
    PageRoute("POST", f"{_ONE}/pause", Scope.OPERATE, pause_connection, form=PauseForm),
    PageRoute("GET", f"{_ONE}/discovery", Scope.OPERATE, show_discovery),
    PageRoute("POST", f"{_ONE}/discovery", Scope.OPERATE, discover_now, form=NoForm),
    PageRoute("GET", f"{_ONE}/resume", Scope.OPERATE, show_resume),
    PageRoute("POST", f"{_ONE}/resume", Scope.OPERATE, resume_connection, form=ResumeForm),
)
