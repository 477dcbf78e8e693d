"""The curl commands of the page about the API work as printed."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from threading import Event, Thread

import pytest

from models.api_token import Scope
from tests.support.fleet import revive_service
from tests.support.mirror import Mirror
from tests.support.web import open_application
from worker.web.app import build_app
from worker.web.server import open_listener, serve_app

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-api.md"
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("curl ")
]


def test_every_curl_command_of_the_page_succeeds(mirror: Mirror) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    assert len(COMMANDS) > 10
    settings = mirror.runtime.settings
    web = open_application(settings)
    revive_service(web.database)
    listener = open_listener("127.0.0.1", 0, settings)
    stop = Event()
    app = build_app(web.context)
    server = Thread(target=serve_app, args=(app, listener, settings, stop))
    server.start()
    known = {"API": listener.url, "TOKEN": web.make_token(*Scope)}
    try:
        for command in COMMANDS:
            words = shlex.split(re.sub(r"\$(\w+)", lambda it: known[it[1]], command))
            done = subprocess.run(
                [*words, "--fail-with-body"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (command, done.stdout, done.stderr)
    finally:
        stop.set()
        server.join(20)
        web.close()
        listener.socket.close()
    assert not server.is_alive()
