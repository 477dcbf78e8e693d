"""`python -m tests.soak`: runs the soak test, prints its report, exits with 1 if a check failed."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from sandbox.tenant import Nango, serve
from tests.soak.consumers import run_consumers
from tests.soak.report import SoakReport
from tests.soak.service import run_soak_service
from tests.soak.soak import Options, Soak

NICE = 10
"""A soak runs beside other work."""


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def read_options(arguments: list[str] | None = None) -> tuple[Options, Path | None]:
    defaults = Options()
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="A fleet under random faults and kills."
    )
    for name, meaning in (
        ("hours", "how long"),
        ("seed", "what everything random is drawn from"),
        ("tenants", "how many customers"),
        ("big", "users of the first customer"),
        ("pace", "seconds between two blows"),
        ("changes", "seconds between two bursts of changes"),
        ("faults", "share of Nango's answers that are faults"),
        ("calm-every", "seconds between two calms"),
        ("patience", "seconds that a calm may take"),
    ):
        default = getattr(defaults, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=type(default), default=default, help=f"{meaning} ({default})"
        )
    parser.add_argument("--report", type=Path, help="a file for the report, too")
    given = vars(parser.parse_args(arguments))
    report = given.pop("report")
    return Options(**given), report


def _end_on_signal(soak: Soak) -> None:
    def stop(_number: int, _frame: object) -> None:
        soak.stop_requests += 1
        print_line("ending: one more calm, then the report; once more to leave out the calm")

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def main(options: Options, report_path: Path | None) -> int:
    os.nice(NICE)
    folder = Path(tempfile.mkdtemp(prefix="tenant-mirror-soak-"))
    folder.chmod(0o711)  # the servers' user passes through
    print_line(f"soak with seed {options.seed}; data and logs: {folder}")
    nango = Nango(rate_limit=None, log_size=0)
    with (
        serve(nango) as server,
        run_soak_service(folder) as running,
        run_consumers(running, folder, options.seed) as receivers,
    ):
        soak = Soak(options, running, nango, receivers)
        _end_on_signal(soak)
        running.start_processes(server.url, nango.key)
        soak.run(print_line, lambda report: _write_report(report, report_path))
        report = soak.build_report()
    if report.passed:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        history = "\n".join(soak.chaos.history)
        (folder / "blows.txt").write_text(f"{history}\n", encoding="utf-8")
        report.notes.append(f"data, logs and a list of all blows are kept in {folder}")
    print_line(report.render())
    _write_report(report, report_path)
    return 0 if report.passed else 1


def _write_report(report: SoakReport, path: Path | None) -> None:
    if path is not None:
        path.write_text(report.render(), encoding="utf-8")


if __name__ == "__main__":
    chosen, path = read_options()
    sys.exit(main(chosen, path))
