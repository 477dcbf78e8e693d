"""Processes in separate pid namespaces, as in containers that share a host name."""

import functools
import shutil
import subprocess
from collections.abc import Sequence

import pytest

_OWN = ("--pid", "--fork", "--kill-child", "--mount-proc")
_WAYS = (_OWN, ("--user", "--map-root-user", *_OWN))


def wrap_in_pid_namespace(command: Sequence[str]) -> list[str]:
    """The command as the first process of a pid namespace. Skips the test where none can be had."""
    prefix = _find_prefix()
    if prefix is None:
        pytest.skip("this machine lets us make no pid namespace (unshare --pid)")
    return [*prefix, *command]


@functools.cache
def _find_prefix() -> tuple[str, ...] | None:
    program = shutil.which("unshare")
    if program is None:
        return None
    for way in _WAYS:
        tried = subprocess.run([program, *way, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return (program, *way)
    return None
