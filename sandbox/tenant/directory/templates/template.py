"""JSON templates with a placeholder for the object's key."""

from collections.abc import Callable
from random import Random
from typing import Any

KEY_PLACEHOLDER = "\ue000"
"""The placeholder of the object's key in a template's strings."""

Props = dict[str, Any]
"""A Graph object: a missing name was never set, None was set and cleared."""

MakeTemplate = Callable[[Random, str], Props]
