"""Text from outside for terminals and logs: names of a directory must not control either."""

import json


def to_one_line(said: str) -> str:
    """Replace characters that break the line or control the terminal: names come from outside."""
    return said if said.isprintable() else "".join(map(_replace_unprintable, said))


def to_plain_lines(said: str) -> str:
    """Replace the same characters in each line of a text whose line breaks are ours."""
    return "\n".join(map(to_one_line, said.split("\n")))


def escape_json_line(line: str) -> str:
    """Return the same JSON with every character escaped that could control the terminal."""
    return line if line.isprintable() else "".join(map(_escape_unprintable, line))


def _replace_unprintable(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}"


def _escape_unprintable(letter: str) -> str:
    return letter if letter.isprintable() else json.dumps(letter)[1:-1]
