"""What the questions of docs/examples are answered on the simulated customers, by file."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tests.support.analysts import Analysts, Row

Check: TypeAlias = Callable[[Analysts, Sequence[Row]], None]
"""Compares the rows of an example with the tenants; raises AssertionError."""
