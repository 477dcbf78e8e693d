"""Decoding alone: pages that lie in memory become rows, events' JSON, hashes and COPY lines."""

from benchmarks.children.pages import bodies
from benchmarks.meter import Meter, arguments, tell
from models.resources import RESOURCES
from worker.graph.decode import decode_page


def main() -> None:
    asked = arguments()
    fetched = list(bodies(asked))
    resource = RESOURCES[asked["resource"]]
    decode_page(resource, fetched[0], first=True)  # compiles what is compiled once
    with Meter() as meter:
        rows = sum(decode_page(resource, body, first=True).count for body in fetched)
    tell({**meter.figures, "rows": rows})


if __name__ == "__main__":
    main()
