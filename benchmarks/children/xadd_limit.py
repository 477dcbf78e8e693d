"""Measures pipelined XADD alone: reads the entries of a stream and appends them to another."""

from typing import Any

import redis

from benchmarks.meter import Meter, read_arguments, write_figures


def main() -> None:
    asked = read_arguments()
    client: Any = redis.Redis.from_url(asked["redis"])
    entries = [fields for _, fields in client.xrange(asked["stream"])]
    size = asked["at_once"]
    with Meter() as meter:
        for start in range(0, len(entries), size):
            pipeline = client.pipeline(transaction=False)
            for fields in entries[start : start + size]:
                pipeline.xadd(asked["to"], fields)
            pipeline.execute()
    client.delete(asked["to"])
    write_figures({**meter.figures, "entries": len(entries)})


if __name__ == "__main__":
    main()
