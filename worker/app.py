"""The Celery application and its configuration, which was tested against broker faults.

Messages are acknowledged early, not prefetched, carry ids only, and have no result backend. With
late acknowledgement Celery 5.7 ends its own worker when Redis goes away. The database sends lost
messages again, so nothing depends on Redis keeping them.
"""

import os
import sys
from typing import Any

from celery import Celery
from celery.schedules import schedule
from celery.signals import (
    after_task_publish,
    beat_init,
    setup_logging,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)

from models.queues import ALL_QUEUES, MAINTENANCE, SLICE_QUEUES
from worker.core.clock import steady_datetime
from worker.core.errors import ConfigurationError
from worker.core.log import configure_logging
from worker.core.process import heartbeat
from worker.core.process.shutdown import request_stop
from worker.core.process.stdio import drop_output_on_full_disk
from worker.core.redis.pool import parse_and_check_redis_url
from worker.core.redis.url import parse_redis_url
from worker.core.settings import Settings, load_settings
from worker.tasks.base import discard_runtime
from worker.tasks.broker_transport import register_transport
from worker.tasks.celery_environment import refuse_celery_variables
from worker.tasks.worker_reporter import WorkerReporter


def build_broker_url(settings: Settings) -> str:
    """Return Celery's broker URL, with all TLS options.

    Without a ``REDIS_URL``, return an address that cannot be mistaken for a real one.
    """
    if settings.redis_url is None:
        return "redis://REDIS_URL-is-not-set:6379/0"
    return parse_redis_url(settings.redis_url.get_secret_value()).to_broker_url()


def build_configuration(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration as data, which tests compare with Procfile and compose."""
    register_transport()
    tick = settings.tick_seconds
    return {
        "broker_url": build_broker_url(settings),
        "result_backend": None,
        "task_ignore_result": True,
        "task_acks_late": False,
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_soft_time_limit": 240,
        "task_time_limit": 300,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            # Nothing depends on an acknowledgement reaching Redis. One that fails while the
            # network is cut would hold its pooled connection forever, and a worker without a free
            # connection stops working while it looks healthy.
            "ack_emulation": False,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "global_keyprefix": "tenant-mirror:",
        },
        "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0, "interval_max": 1},
        "worker_max_tasks_per_child": 500,
        "worker_max_memory_per_child": 400_000,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": min(5.0, tick),
        # Write access to the broker must not allow anyone to stop or control a process.
        "worker_enable_remote_control": False,
        "beat_enable_remote_control": False,
        "task_create_missing_queues": False,
        "task_default_queue": MAINTENANCE,
        "task_queues": {name: {"exchange": name, "routing_key": name} for name in ALL_QUEUES},
        "task_routes": {"sync.*": {"queue": SLICE_QUEUES[1]}, "*": {"queue": MAINTENANCE}},
        # No message expires: beat's clock would set the time and a worker's clock would judge it.
        # A late message finds in the database that its turn was taken (worker/tasks/schedule.py).
        "beat_schedule": {
            "tick": {
                "task": "schedule.tick",
                "schedule": schedule(tick, nowfun=steady_datetime),
                "options": {"queue": MAINTENANCE},
            },
        },
        "include": [
            "worker.tasks.schedule",
            "worker.tasks.sync",
            "worker.tasks.maintenance",
            "worker.tasks.operations",
        ],
    }


def make_app() -> Celery:
    """Read the settings and build the application. Raises ConfigurationError on a bad setting."""
    refuse_celery_variables(os.environ)
    settings = load_settings()
    if settings.redis_url is not None:
        parse_and_check_redis_url(settings.redis_url.get_secret_value())
    # Without fixups, because Celery loads Django if the environment names Django settings.
    application = Celery("tenant_mirror", fixups=[])
    application.config_from_object(build_configuration(settings))
    application.steps["consumer"].add(WorkerReporter)
    return application


@setup_logging.connect
def _configure_logging(**_: Any) -> None:
    settings = load_settings()
    drop_output_on_full_disk()
    configure_logging(settings.log_level, settings.log_format)


@beat_init.connect
def _watch_published_ticks(**_: Any) -> None:
    """Write beat's heartbeat after each published message: beat works while Redis accepts them."""
    after_task_publish.connect(_write_beat_heartbeat)


def _write_beat_heartbeat(**_: Any) -> None:
    heartbeat.write_heartbeat("beat")


@worker_shutting_down.connect
def _request_stop(**_: Any) -> None:
    """On a warm shutdown, have running slices end after their current page."""
    request_stop()


@worker_process_shutdown.connect
@worker_shutdown.connect
def _close_runtime(**_: Any) -> None:
    discard_runtime()


def _make_app_or_exit() -> Celery:
    """Return the application; on a wrong setting, exit with a sentence instead of a traceback."""
    try:
        return make_app()
    except ConfigurationError as halt:
        sys.exit(f"Error: {halt}")


app = _make_app_or_exit()
