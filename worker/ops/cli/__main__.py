"""``python -m worker.ops.cli``: the command line without its console script."""

from worker.ops.cli import main

main()
