"""The table of all routes. Everything else about them is made from it."""

from typing import Final

from worker.web.answers import LiveAnswer, ReadyAnswer
from worker.web.endpoint import Endpoint, Exemption
from worker.web.exposition import get_metrics
from worker.web.health import get_live, get_ready
from worker.web.openapi import get_document

METRICS_TYPE: Final = "text/plain"

HEALTH_ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/health/live",
        Exemption.OPEN,
        "Whether this process answers.",
        get_live,
        LiveAnswer,
        runs_inline=True,
    ),
    Endpoint(
        "GET",
        "/health/ready",
        Exemption.WORDS,
        "Whether this process can serve: the database is reachable and has the needed schema.",
        get_ready,
        ReadyAnswer,
        unwell=503,
    ),
)

METRICS_ENDPOINTS: Final = (
    *HEALTH_ENDPOINTS,
    Endpoint(
        "GET",
        "/metrics",
        Exemption.LOCAL,
        "Metrics for Prometheus; on this host without a token.",
        get_metrics,
        None,
        media_type=METRICS_TYPE,
    ),
)
"""What ``tenant-mirror metrics --listen`` serves."""

ENDPOINTS: Final = (
    *METRICS_ENDPOINTS,
    Endpoint(
        "GET",
        "/api/openapi.json",
        Exemption.OPEN,
        "This document.",
        get_document,
        None,
    ),
)
