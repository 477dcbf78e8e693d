"""Read Nango's list now: for what was corrected there, such as the settings of a connection."""

from worker.operations.discovery import ask_for_discovery
from worker.page.connection import describe_identity, find_connection
from worker.page.page import Redirect, View, Visit


def show_discovery(visit: Visit) -> View:
    """Return the page that says what reading the list does. Raises NotFound."""
    fleet, one = find_connection(visit)
    values = {
        "connection": describe_identity(one),
        "settings_problem": one.facts.settings_problem,
        "interval": float(visit.context.settings.discovery_seconds),
        "is_ticking": fleet.service.is_dispatcher_alive,
    }
    return View("discovery.html", f"Nango's list for {one.facts.title}", values, is_live=False)


def discover_now(visit: Visit) -> Redirect:
    """Ask for it, and lead back to the connection. Raises NotFound."""
    number = visit.ids["connection_id"]
    ask_for_discovery(visit.context.database, visit.actor, number)
    visit.context.forget(number)
    return Redirect(f"/connections/{number}?discovery=true")
