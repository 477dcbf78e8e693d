"""Fetches every page of a list and drops it: the limit of reading."""

from benchmarks.children.pages import read_bodies
from benchmarks.meter import Meter, read_arguments, write_figures


def main() -> None:
    asked = read_arguments()
    with Meter() as meter:
        sizes = [len(body) for body in read_bodies(asked)]
    write_figures({**meter.figures, "pages": len(sizes), "bytes": sum(sizes)})


if __name__ == "__main__":
    main()
