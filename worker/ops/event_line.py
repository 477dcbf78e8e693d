"""Renders a change event as one line for people, with any characters in names."""

from collections.abc import Iterable

from worker.core.printable import to_one_line


def render_event_line(
    when: str,
    owner: str,
    resource: str,
    change: str,
    what: str,
    *,
    changed: Iterable[str] | None,
    width: int = 10,
) -> str:
    """Return ``when``, the owner, the change, the object's name, and the changed columns.

    ``width`` is that of the owner's column.
    """
    columns = f" ({', '.join(changed)})" if changed else ""
    return to_one_line(
        f"{when}  {owner:<{width}} {resource:<16} {change:<8} {what}{columns}"
    ).rstrip()
