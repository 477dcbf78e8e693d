"""XADD alone, pipelined: the entries of one stream are read, then appended to another."""

from typing import Any

import redis

from benchmarks.meter import Meter, arguments, tell


def main() -> None:
    asked = arguments()
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
    tell({**meter.figures, "entries": len(entries)})


if __name__ == "__main__":
    main()
