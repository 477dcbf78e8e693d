"""Measures decoding alone: pages in memory become rows, JSON of events, hashes and COPY lines."""

from benchmarks.children.pages import read_bodies
from benchmarks.meter import Meter, read_arguments, write_figures
from models.resources import RESOURCES
from worker.graph.decode import decode_page


def main() -> None:
    asked = read_arguments()
    fetched = list(read_bodies(asked))
    resource = RESOURCES[asked["resource"]]
    decode_page(resource, fetched[0], is_first_load=True)  # builds the cached decoders
    with Meter() as meter:
        rows = sum(decode_page(resource, body, is_first_load=True).count for body in fetched)
    write_figures({**meter.figures, "rows": rows})


if __name__ == "__main__":
    main()
