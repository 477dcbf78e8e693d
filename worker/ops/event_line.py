"""Renders a change event as one line for people, with any characters in names."""

from collections.abc import Iterable


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


def to_one_line(said: str) -> str:
    """Replace characters that break the line or control the terminal: names come from outside."""
    return said if said.isprintable() else "".join(map(_replace_unprintable, said))


def _replace_unprintable(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"
