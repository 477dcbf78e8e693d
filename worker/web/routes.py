"""The table of all routes. Everything else about them is made from it."""

from typing import Final

from models.api_token import Scope
from worker.web.answers import (
    ConnectionAnswer,
    ConnectionListAnswer,
    FleetAnswer,
    HealthAnswer,
    LiveAnswer,
    ReadyAnswer,
)
from worker.web.bodies import (
    BulkPauseBody,
    BulkResumeBody,
    BulkResyncBody,
    DecisionBody,
    PauseBody,
    ResumeBody,
    ResyncBody,
)
from worker.web.endpoint import Endpoint, Exemption
from worker.web.exposition import get_metrics
from worker.web.fleet_routes import (
    get_connection,
    get_connections,
    get_fleet,
    get_fleet_health,
)
from worker.web.health import get_live, get_ready
from worker.web.history_answers import AuditAnswer, ChangeListAnswer, RunAnswer, RunListAnswer
from worker.web.history_routes import get_audit, get_changes, get_one_run, get_runs
from worker.web.openapi import get_document
from worker.web.operation_answers import (
    HeldAnswer,
    OperationAnswer,
    OperationDetailsAnswer,
    OperationListAnswer,
    PriceAnswer,
)
from worker.web.operation_routes import (
    approve_held_deletions,
    cancel_waiting_operation,
    get_held,
    get_one_operation,
    get_operations,
    pause_connection,
    pause_many,
    reject_held_deletions,
    resume_connection,
    resume_many,
    resync_connection,
    resync_many,
)
from worker.web.queries import (
    AuditQuery,
    ChangesQuery,
    ConnectionsQuery,
    HeldQuery,
    OperationQuery,
    OperationsQuery,
    RunsQuery,
)

ACTION_ENDPOINTS: Final = (
    *(
        Endpoint(
            "POST",
            f"/api/connections/{{connection_id}}/{word}",
            Scope.OPERATE,
            summary,
            handler,
            OperationAnswer,
            status=202,
            refusals=(409,),
            body=body,
        )
        for word, handler, body, summary in (
            ("resync", resync_connection, ResyncBody, "Sync it now."),
            ("pause", pause_connection, PauseBody, "Pause it, until a resume or a time."),
            ("resume", resume_connection, ResumeBody, "End a pause of an operator."),
            (
                "approve",
                approve_held_deletions,
                DecisionBody,
                "Apply the held deletions that were seen.",
            ),
            (
                "reject",
                reject_held_deletions,
                DecisionBody,
                "Discard the held deletions that were seen, and read everything again.",
            ),
        )
    ),
    *(
        Endpoint(
            "POST",
            f"/api/bulk/{word}",
            Scope.OPERATE,
            f"{summary} First ask with `dry_run` for the number to repeat as `expected_count`.",
            handler,
            OperationAnswer,
            status=202,
            refusals=(409,),
            body=body,
            preview=PriceAnswer,
        )
        for word, handler, body, summary in (
            ("resync", resync_many, BulkResyncBody, "Sync all that match now."),
            ("pause", pause_many, BulkPauseBody, "Pause all that match."),
            ("resume", resume_many, BulkResumeBody, "End the pauses of all that match."),
        )
    ),
    Endpoint(
        "GET",
        "/api/operations",
        Scope.READ,
        "Actions that were asked for, newest first.",
        get_operations,
        OperationListAnswer,
        query=OperationsQuery,
    ),
    Endpoint(
        "GET",
        "/api/operations/{operation_id}",
        Scope.READ,
        "What became of an action.",
        get_one_operation,
        OperationDetailsAnswer,
        query=OperationQuery,
    ),
    Endpoint(
        "POST",
        "/api/operations/{operation_id}/cancel",
        Scope.OPERATE,
        "Cancel an action that no process has begun; again, it changes nothing.",
        cancel_waiting_operation,
        OperationAnswer,
        refusals=(409,),
    ),
    Endpoint(
        "GET",
        "/api/connections/{connection_id}/held",
        Scope.READ,
        "Deletions that wait for an operator: counts and digests, and one resource in full.",
        get_held,
        HeldAnswer,
        query=HeldQuery,
    ),
)

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
    Endpoint(
        "GET",
        "/health/fleet",
        Exemption.WORDS,
        "Whether the service works: dispatcher, workers, relay, Redis, Nango and its budget.",
        get_fleet_health,
        HealthAnswer,
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

READ_ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/api/fleet",
        Scope.READ,
        "The service: what is wrong with it, its workers, and counts of connections.",
        get_fleet,
        FleetAnswer,
    ),
    Endpoint(
        "GET",
        "/api/connections",
        Scope.READ,
        "Connections with their conditions and what each does or waits for; filtered, sorted and "
        "paged.",
        get_connections,
        ConnectionListAnswer,
        query=ConnectionsQuery,
    ),
    Endpoint(
        "GET",
        "/api/connections/{connection_id}",
        Scope.READ,
        "One connection.",
        get_connection,
        ConnectionAnswer,
    ),
    Endpoint(
        "GET",
        "/api/connections/{connection_id}/runs",
        Scope.READ,
        "Its runs, newest first.",
        get_runs,
        RunListAnswer,
        query=RunsQuery,
    ),
    Endpoint(
        "GET",
        "/api/runs/{run_id}",
        Scope.READ,
        "One run.",
        get_one_run,
        RunAnswer,
    ),
    Endpoint(
        "GET",
        "/api/connections/{connection_id}/changes",
        Scope.READ,
        "What changed in the directory of a connection: counts, and the newest changes.",
        get_changes,
        ChangeListAnswer,
        query=ChangesQuery,
    ),
    Endpoint(
        "GET",
        "/api/audit",
        Scope.READ,
        "Who did what, newest first.",
        get_audit,
        AuditAnswer,
        query=AuditQuery,
    ),
)

ENDPOINTS: Final = (
    *METRICS_ENDPOINTS,
    *READ_ENDPOINTS,
    *ACTION_ENDPOINTS,
    Endpoint(
        "GET",
        "/api/openapi.json",
        Exemption.OPEN,
        "This document.",
        get_document,
        None,
    ),
)
