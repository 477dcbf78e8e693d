"""Describes the machine and versions of a measurement."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.environment import Environment
from benchmarks.processes import ROOT

_PACKAGES = ("celery", "httpx", "msgspec", "psycopg", "redis", "sqlalchemy", "uvicorn")


def describe_machine(ground: Environment) -> dict[str, Any]:
    """Return the commit, the machine and the versions."""
    return {
        "commit": _read_commit(),
        "processor": _read_processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "file_system": _find_file_system(ground.home.path),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "postgres": ground.postgres_version,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _read_commit() -> str:
    """Return the commit, marked if files differ from it."""
    found = _git("rev-parse", "--short=12", "HEAD")
    if not found:
        return "unknown"
    changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!docs")
    return f"{found}{' with local changes' if changed else ''}"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words],  # noqa: S607 - whichever git the caller uses
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _read_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _find_file_system(path: Path) -> str:
    """Return the file system of a path; one in memory would make figures too good."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    found = [line.split()[1:3] for line in mounts]
    fitting = [(where, kind) for where, kind in found if path.is_relative_to(where)]
    return max(fitting, key=lambda item: len(item[0]))[1] if fitting else "unknown"
