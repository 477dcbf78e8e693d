"""The bare reader: fetches every page of a list and throws it away. What no reader can beat."""

from benchmarks.children.pages import bodies
from benchmarks.meter import Meter, arguments, tell


def main() -> None:
    asked = arguments()
    with Meter() as meter:
        sizes = [len(body) for body in bodies(asked)]
    tell({**meter.figures, "pages": len(sizes), "bytes": sum(sizes)})


if __name__ == "__main__":
    main()
