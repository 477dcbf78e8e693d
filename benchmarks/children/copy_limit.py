"""COPY of ready-made lines, a transaction a page: what no loader into these tables can beat."""

from itertools import islice
from pathlib import Path

import psycopg

from benchmarks.meter import Meter, arguments, tell


def _pages(file: str, size: int) -> list[bytes]:
    with Path(file).open("rb") as lines:
        return list(iter(lambda: b"".join(islice(lines, size)), b""))


def main() -> None:
    """Each part is a statement and a file of lines; the n-th pages of all go in together."""
    asked = arguments()
    parts = [(one["statement"], _pages(one["file"], asked["page"])) for one in asked["parts"]]
    with psycopg.connect(asked["database"]) as connection, Meter() as meter:
        for number in range(max(len(pages) for _, pages in parts)):
            for statement, pages in parts:
                if number < len(pages):
                    with connection.cursor().copy(statement) as copy:
                        copy.write(pages[number])
            connection.commit()
    tell(meter.figures)


if __name__ == "__main__":
    main()
