"""How a change event is told to a person: one line, whatever is in the names."""

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
    """``when``, whose it is, the change, the object's name, and the columns that changed.

    ``width`` aligns what follows the owner.
    """
    columns = f" ({', '.join(changed)})" if changed else ""
    return to_one_line(
        f"{when}  {owner:<{width}} {resource:<16} {change:<8} {what}{columns}"
    ).rstrip()


def to_one_line(said: str) -> str:
    """Without letters that would break the line, or steer the terminal: names come from outside."""
    return said if said.isprintable() else "".join(map(_replace_unprintable, said))


def _replace_unprintable(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"
