"""The rules of accessibility that browser tests load: the file is the one that was published."""

import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "browser" / "axe"


def test_axe_is_the_published_file_with_its_licence_and_named_in_the_notice() -> None:
    told = json.loads((FOLDER / "vendored.json").read_text())
    content = (FOLDER / told["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == told["sha256"]
    assert f"axe v{told['version']}".encode() in content[:100]
    assert "Mozilla Public License" in (FOLDER / told["licence_file"]).read_text()
    notice = (ROOT / "NOTICE").read_text()
    assert f"{told['package']} {told['version']}" in notice
    assert told["licence"] in notice
