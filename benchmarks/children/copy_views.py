"""Measures COPY of views to files as CSV, and nothing else: the limit of an export."""

from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.meter import Meter, read_arguments, write_figures


def main() -> None:
    """Copy the rows of one connection out of each view into a file of the folder."""
    asked = read_arguments()
    folder = Path(asked["folder"])
    with psycopg.connect(asked["database"]) as connection, Meter() as meter:
        for view in asked["views"]:
            statement = sql.SQL(
                "copy (select * from analytics.{} where connection_id = 1) to stdout"
                " (format csv, header true)"
            ).format(sql.Identifier(view))
            with (
                (folder / f"{view}.csv").open("wb") as file,
                connection.cursor().copy(statement) as copy,
            ):
                file.writelines(copy)
    write_figures(meter.figures)


if __name__ == "__main__":
    main()
