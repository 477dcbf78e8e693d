"""Measures decoding alone: pages in memory become rows, JSON of events, hashes and COPY lines."""

from benchmarks.children.pages import read_bodies
from benchmarks.meter import Meter, read_arguments, write_figures
from models.resource import Resource
from models.resources import RESOURCES
from worker.graph.decode import decode_page
from worker.rows.incoming import encode_rows


def main() -> None:
    asked = read_arguments()
    fetched = list(read_bodies(asked))
    resource = RESOURCES[asked["resource"]]
    decode_and_encode(resource, fetched[0])  # builds the cached decoders
    with Meter() as meter:
        rows = sum(decode_and_encode(resource, body) for body in fetched)
    write_figures({**meter.figures, "rows": rows})


def decode_and_encode(resource: Resource, body: bytes) -> int:
    """Do what a first load does with a page before Postgres gets it; return its objects."""
    page = decode_page(resource, body, hash_sources=True)
    return len(encode_rows(resource, page.rows).lines)


if __name__ == "__main__":
    main()
