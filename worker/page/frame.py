"""What every template knows besides its values: links, times, the navigation, who is signed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from markupsafe import Markup

from worker.core.time_text import render_age
from worker.page.assets import list_assets
from worker.page.format import Zone, render_distance, render_instant, render_machine_time
from worker.page.moments import find_moments
from worker.page.session import Session

_KEEPS_PAGE: Final = frozenset(("zone", "after"))
"""Parameters that do not change which rows are listed."""
_PARTS: Final = frozenset(("zone", "after", "limit"))
"""Parameters that a file of all rows does not have."""


@dataclass(frozen=True)
class NavigationItem:
    """A page in the navigation."""

    title: str
    path: str
    count: int
    """Things on it that need attention."""
    is_current: bool


@dataclass(frozen=True)
class Frame:
    """What is around a page. Templates know it as ``page``."""

    title: str
    path: str
    parameters: tuple[tuple[str, str], ...]
    """Of the query, as they came."""
    zone: Zone
    now: datetime
    """When the look was taken that the page shows."""
    request_id: str
    session: Session | None = None
    navigation: Sequence[NavigationItem] = ()
    is_live: bool = False
    is_fragment: bool = False
    tag: str = ""

    @property
    def can_operate(self) -> bool:
        return self.session is not None and self.session.can_operate

    @property
    def counts(self) -> list[int]:
        """The numbers in the navigation."""
        return [one.count for one in self.navigation]

    @property
    def machine_now(self) -> str:
        return render_machine_time(self.now)

    def asset(self, name: str) -> str:
        return list_assets()[name]

    def link(self, path: str, **parameters: Any) -> str:
        """Return a link to another page, with the same zone."""
        zone = [] if self.zone is Zone.UTC else [("zone", self.zone.value)]
        return _build_link(path, [*_list_pairs(parameters), *zone])

    def here(self, **changes: Any) -> str:
        """Return a link to this page with other parameters; None or "" leaves one out."""
        dropped = set(changes)
        if not dropped <= _KEEPS_PAGE:
            dropped.add("after")
        kept = [pair for pair in self.parameters if pair[0] not in dropped]
        return _build_link(self.path, [*kept, *_list_pairs(changes)])

    def export(self, path: str) -> str:
        """Return a link to all that this page lists, as a file."""
        kept = [pair for pair in self.parameters if pair[0] not in _PARTS]
        return _build_link(path, kept)

    def is_sorted_by(self, name: str) -> bool:
        return ("sort", name) in self.parameters

    def time(self, instant: datetime | None) -> Markup:
        """Return a time in the chosen zone; a dash for none."""
        if instant is None:
            return _NOTHING
        text = render_instant(instant, self.now, self.zone)
        return _TIME.format(render_machine_time(instant), text)

    def at(self, instant: datetime) -> Markup:
        """Return when something happens in a sentence: "at" a time, or how far away it is."""
        return self.time(instant) if self.zone is Zone.RELATIVE else "at " + self.time(instant)

    def prose(self, text: str) -> Markup:
        """Return a sentence or a stored detail, with the times in it in the chosen zone."""
        shown, end = Markup(), 0
        for found in find_moments(text, self.now):
            # "due at 5 min ago" would be no English.
            start = found.start if self.zone is not Zone.RELATIVE else found.start_with_at
            words = text[found.start : found.end]
            if self.zone is Zone.RELATIVE:
                words = render_distance(found.moment, self.now)
            shown += text[end:start]
            shown += _TIME.format(render_machine_time(found.moment), words)
            end = found.end
        return shown + text[end:]

    def age(self, instant: datetime | None, missing: str = "never") -> Markup | str:
        """Return how old something is that was so at a time."""
        if instant is None:
            return missing
        seconds = (self.now - instant).total_seconds()
        return _AGE.format(render_machine_time(instant), render_age(seconds))

    def distance(self, instant: datetime | None) -> Markup:
        """Return how far away a time is, ago or ahead; a dash for none."""
        if instant is None:
            return _NOTHING
        text = render_distance(instant, self.now)
        return _DISTANCE.format(render_machine_time(instant), text)

    def until(self, instant: datetime | None) -> Markup:
        """Return when something happens: "in 5 s", "now" if it is due; a dash for none."""
        if instant is None:
            return _NOTHING
        text = render_distance(max(instant, self.now), self.now)
        return _UNTIL.format(render_machine_time(instant), text)

    def signed_in(
        self, session: Session, navigation: Sequence[NavigationItem], *, now: datetime
    ) -> "Frame":
        return replace(self, session=session, navigation=navigation, now=now)

    def as_live(self, tag: str) -> "Frame":
        """Return the frame of a page that is asked for again, with the tag of what it shows."""
        return replace(self, is_live=True, tag=tag)


_TIME: Final = Markup('<time datetime="{}">{}</time>')
_AGE: Final = Markup('<time datetime="{}" data-as="age">{}</time>')
_DISTANCE: Final = Markup('<time datetime="{}" data-as="relative">{}</time>')
_UNTIL: Final = Markup('<time datetime="{}" data-as="until">{}</time>')
_NOTHING: Final = Markup('<span class="nothing">-</span>')


def _list_pairs(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = []
    for name, value in parameters.items():
        for one in value if isinstance(value, list | tuple | set | frozenset) else [value]:
            if one is True:
                pairs.append((name, "true"))
            elif one not in (None, "", False):
                pairs.append((name, str(one)))
    return pairs


def _build_link(path: str, pairs: Sequence[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(pairs)}" if pairs else path
