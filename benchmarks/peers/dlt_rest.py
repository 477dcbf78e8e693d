"""Runs dlt with its REST source into Postgres, merging by id."""

import os
import tempfile

from benchmarks.meter import Meter, read_arguments, write_figures

ASKED = read_arguments()
os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}

import dlt  # noqa: E402
from dlt.sources.rest_api import rest_api_source  # noqa: E402


def main() -> None:
    source = rest_api_source(
        {
            "client": {
                "base_url": f"{ASKED['url']}/proxy/v1.0/",
                "headers": ASKED["headers"],
                "paginator": {"type": "json_link", "next_url_path": "'@odata.nextLink'"},
            },
            "resources": [
                {
                    "name": "users",
                    "primary_key": "id",
                    "write_disposition": "merge",
                    "endpoint": {
                        "path": "users",
                        "params": ASKED["params"],
                        "data_selector": "value",
                    },
                }
            ],
        }
    )
    if not ASKED["nesting"]:
        source.max_table_nesting = 0
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            pipeline_name="bench",
            pipelines_dir=folder,
            destination=dlt.destinations.postgres(ASKED["database"]),
            dataset_name="bench",
        )
        runs = []
        for _ in range(ASKED["runs"]):
            with Meter() as meter:
                pipeline.run(source)
            runs.append(meter.figures)
    write_figures({"runs": runs, **runs[-1]})


if __name__ == "__main__":
    main()
