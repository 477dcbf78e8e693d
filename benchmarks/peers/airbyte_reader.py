"""Reads with the Airbyte CDK's declarative source and drops the records."""

import logging
from typing import Any

from airbyte_cdk.entrypoint import AirbyteEntrypoint
from airbyte_cdk.models import ConfiguredAirbyteCatalogSerializer
from airbyte_cdk.models import Type as Kind
from airbyte_cdk.sources.declarative.concurrent_declarative_source import (
    ConcurrentDeclarativeSource,
)

from benchmarks.meter import Meter, read_arguments, write_figures


def _build_manifest(asked: dict[str, Any]) -> dict[str, Any]:
    schema = {"$schema": "http://json-schema.org/schema#", "type": "object", "properties": {}}
    return {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["users"]},
        "streams": [
            {
                "type": "DeclarativeStream",
                "name": "users",
                "primary_key": ["id"],
                "schema_loader": {"type": "InlineSchemaLoader", "schema": schema},
                "retriever": {
                    "type": "SimpleRetriever",
                    "requester": {
                        "type": "HttpRequester",
                        "url_base": f"{asked['url']}/proxy/v1.0",
                        "path": "users",
                        "http_method": "GET",
                        "request_headers": asked["headers"],
                        "request_parameters": asked["params"],
                    },
                    "record_selector": {
                        "type": "RecordSelector",
                        "extractor": {"type": "DpathExtractor", "field_path": ["value"]},
                    },
                    "paginator": {
                        "type": "DefaultPaginator",
                        "page_token_option": {"type": "RequestPath"},
                        "pagination_strategy": {
                            "type": "CursorPagination",
                            "cursor_value": "{{ response.get('@odata.nextLink', {}) }}",
                            "stop_condition": "{{ '@odata.nextLink' not in response }}",
                        },
                    },
                },
            }
        ],
        "spec": {
            "type": "Spec",
            "connection_specification": {"type": "object", "properties": {}},
        },
    }


def _build_catalog() -> Any:
    stream = {"name": "users", "json_schema": {}, "supported_sync_modes": ["full_refresh"]}
    modes = {"sync_mode": "full_refresh", "destination_sync_mode": "overwrite"}
    return ConfiguredAirbyteCatalogSerializer.load({"streams": [{"stream": stream, **modes}]})


def main() -> None:
    """Serialize each record as for a destination."""
    logging.disable(logging.CRITICAL)
    catalog, rows = _build_catalog(), 0
    with Meter() as meter:
        source: Any = ConcurrentDeclarativeSource(
            catalog=catalog, config={}, state=[], source_config=_build_manifest(read_arguments())
        )
        for message in source.read(logging.getLogger("bench"), {}, catalog, []):
            AirbyteEntrypoint.airbyte_message_to_string(message)
            rows += message.type is Kind.RECORD
    write_figures({**meter.figures, "rows": rows})


if __name__ == "__main__":
    main()
