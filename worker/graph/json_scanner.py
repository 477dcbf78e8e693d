"""Splits JSON into its members without decoding them.

Decoders reject a whole body for one lone surrogate, control character or too deep nesting. Here
each member keeps its original text, so that it can be decoded by itself.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(
    r"""[ \t\r\n]*(?:
        (?P<text> "[^"\\]*(?:\\.[^"\\]*)*" )
      | (?P<opening> [\[{] ) | (?P<closing> [\]}] )
      | (?P<comma> , ) | (?P<colon> : )
      | (?P<word> -?\d+(?:\.\d+)?(?:[eE][+-]?\d+)? | true | false | null | NaN | -?Infinity )
    )""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_NON_BRACKETS: Final = re.compile(r"""(?:[^][{}"]+|"[^"\\]*(?:\\.[^"\\]*)*")*+""", re.DOTALL)
"""All up to the next bracket: below the members, only nesting is counted."""

_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_INNERMOST_BRACKETS: Final = re.compile(r"[\[{][^][}{]*[\]}]")
_MAX_FLATTENED: Final = 64
"""Levels of nesting that are counted one by one."""

_WHITESPACE: Final = " \t\r\n"
_PAIRS: Final = {"]": "[", "}": "{"}


def decode_text(body: bytes) -> str:
    """Return the text of a body with any bytes.

    A surrogate encoded by itself, or a byte that is not UTF-8, becomes a lone surrogate, so that
    only one value is malformed, not the body.
    """
    try:
        return body.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return body.decode("utf-8", "surrogateescape")


def split_array(text: str) -> list[str]:
    """Return the elements of an array. Raises ValueError if the text is none."""
    return list(iter_array(text))


def iter_array(text: str) -> Iterator[str]:
    """Yield the elements of an array. Raises ValueError if the text is none."""
    return (text[start:end] for start, end, _ in _scan_parts(text, "["))


def count_items(text: str) -> int:
    """Count the elements of an array quickly, without extracting them.

    If elements are nested too deep, not all are counted.
    """
    flat = _STRING.sub("0", text).strip(_WHITESPACE)[1:-1]
    for _ in range(_MAX_FLATTENED):
        flat, changed = _INNERMOST_BRACKETS.subn("0", flat)
        if not changed:
            return flat.count(",") + 1 if flat.strip(_WHITESPACE) else 0
    return 1


def split_object(text: str) -> dict[str, str]:
    """Return the members of an object by name; the last of equal names counts.

    Raises ValueError if the text is no object.
    """
    members = {}
    for start, end, colon in _scan_parts(text, "{"):
        name = _TOKEN.match(text, start)
        if colon is None or name is None or name.lastgroup != "text":
            raise ValueError("a member has no name")
        if text[name.end() : colon].strip(_WHITESPACE) or not text[colon + 1 : end].strip(
            _WHITESPACE
        ):
            raise ValueError("a member has no value")
        members[parse_string(name["text"])] = text[colon + 1 : end]
    return members


def parse_string(text: str) -> str:
    """Parse a JSON string, lone surrogates and control characters included."""
    if not text.lstrip(_WHITESPACE).startswith('"'):
        raise ValueError("expected a text")
    return str(json.loads(text, strict=False))


def _scan_parts(text: str, kind: str) -> Iterator[tuple[int, int, int | None]]:
    """Yield start, end and colon of each element or member of the outermost value."""
    start, colon, values, parts = 0, None, 0, 0
    for place, group, depth in _scan_tokens(text):
        if depth == 0:
            _require(group == "opening" and text[place - 1] == kind, "its kind")
            start = place
        elif depth > 1:
            continue
        elif group in ("comma", "closing"):
            empty = group == "closing" and not parts and not values and colon is None
            _require(values == 1 or empty, "a part")
            if values:
                yield start, place - 1, colon
            start, colon, values, parts = place, None, 0, parts + 1
        elif group == "colon":
            _require(colon is None and values == 1 and kind == "{", "a colon")
            colon, values = place - 1, 0
        else:
            values += 1
            _require(values == 1, "a comma")


def _scan_tokens(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield the end, group and depth of each token; below the members only of brackets."""
    open_now: list[str] = []
    place, end = 0, len(text.rstrip(_WHITESPACE))
    while place < end:
        depth = len(open_now)
        if depth > 1 and (inner := _NON_BRACKETS.match(text, place)):
            place = inner.end()
        token = _TOKEN.match(text, place)
        _require(token is not None and (depth > 0 or place == 0), "an invalid token")
        assert token is not None
        place, group = token.end(), str(token.lastgroup)
        if group == "closing":
            _require(
                depth > 0 and open_now.pop() == _PAIRS[text[place - 1]], "brackets do not match"
            )
        elif group == "opening":
            open_now.append(text[place - 1])
        yield place, group, depth
    _require(place > 0 and not open_now, "it is truncated")


def _require(condition: bool, what: str) -> None:  # noqa: FBT001 - an assertion about the text
    if not condition:
        raise ValueError(f"malformed JSON ({what})")
