"""Measures COPY of prepared lines, a transaction a page: the limit of loading these tables."""

from itertools import islice
from pathlib import Path

import psycopg

from benchmarks.meter import Meter, read_arguments, write_figures


def _read_pages(file: str, size: int) -> list[bytes]:
    with Path(file).open("rb") as lines:
        return list(iter(lambda: b"".join(islice(lines, size)), b""))


def main() -> None:
    """Each part is a statement and a file of lines; the n-th pages of all are one transaction."""
    asked = read_arguments()
    parts = [(one["statement"], _read_pages(one["file"], asked["page"])) for one in asked["parts"]]
    with psycopg.connect(asked["database"]) as connection, Meter() as meter:
        for number in range(max(len(pages) for _, pages in parts)):
            for statement, pages in parts:
                if number < len(pages):
                    with connection.cursor().copy(statement) as copy:
                        copy.write(pages[number])
            connection.commit()
    write_figures(meter.figures)


if __name__ == "__main__":
    main()
