"""JSON templates with a placeholder for the object's key."""

from collections.abc import Callable
from random import Random
from typing import Any

from sandbox.tenant.directory.object_store import ObjectStore

KEY_PLACEHOLDER = "\ue000"
"""Stands for the object's key in a template's strings."""

Props = dict[str, Any]
"""A Graph object: a missing name was never set, None was set once and cleared."""

MakeTemplate = Callable[[Random, str], Props]


class RenderedTemplates:
    """A rendering of all templates of a shelf, made as they are needed."""

    def __init__(self, shelf: "ObjectStore", render: Callable[[Props], bytes]) -> None:
        self._shelf, self._render = shelf, render
        self._slot = KEY_PLACEHOLDER.encode()
        self._parts: list[list[bytes] | None] = [None] * shelf.guids.prefixes

    def render_template(self, number: int) -> list[bytes]:
        parts = self._parts[number]
        if parts is None:
            parts = self._render(self._shelf.make_template(number)).split(self._slot)
            self._parts[number] = parts
        return parts

    def render_range(self, start: int, stop: int) -> list[bytes]:
        """The objects start..stop-1 as they were generated."""
        keys, size = self._shelf.guids.keys.keys_between(start, stop), len(self._parts)
        for index in range(start, min(stop, start + size)):
            self.render_template(index % size)
        parts: list[Any] = self._parts
        return [
            key.join(parts[index % size])
            for index, key in zip(range(start, stop), keys, strict=True)
        ]
