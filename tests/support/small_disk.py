"""Small in-memory file systems that can be filled, if the machine permits mounting them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mount_small_disk(path: Path, megabytes: int) -> Iterator[Path]:
    """An empty disk of that size, mounted at the path; skips the test where that is not allowed."""
    path.mkdir(parents=True)
    mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        yield path
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(path)], check=True)


def fill_disk(disk: Path) -> Path:
    """Take all room that is left on a disk; the file to delete to give it back."""
    filler = disk / "filler"
    left = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, left.f_bavail * left.f_frsize)
    return filler
