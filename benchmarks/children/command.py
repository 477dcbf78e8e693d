"""Runs one of our commands like the console script. The clock starts after the imports, as for
the other tools."""

import io
import json
import sys
from contextlib import redirect_stdout
from importlib import import_module
from typing import Final

from benchmarks.meter import Meter, read_arguments, write_figures
from worker.ops.cli import main as command

PRELOADED: Final = {"sync": ("worker.ops.cli.sync", "worker.wiring")}
"""What a command imports when it runs, by its name; others pay for that in their time."""


def main() -> None:
    words = read_arguments()["words"]
    for module in PRELOADED.get(words[0], ()):
        import_module(module)
    figures_to = sys.argv[1]
    sys.argv = ["tenant-mirror", *words]
    shown, code = io.StringIO(), 0
    with Meter() as meter, redirect_stdout(shown):
        try:
            command()
        except SystemExit as ended:
            code = int(ended.code or 0)
    printed = json.loads(shown.getvalue()) if "--json" in words and shown.getvalue() else None
    write_figures({**meter.figures, "code": code, "printed": printed}, figures_to)


if __name__ == "__main__":
    main()
