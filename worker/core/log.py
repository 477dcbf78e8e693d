"""Logs: one JSON object a line, with the connection and run bound; secrets never get in.

We log ids, counts and our own sentences. Bodies, tokens, links and URLs with a query are not
ours to log, and what libraries log is cut down to warnings for the same reason. Database errors
quote rows and parameters: of those, only what ``fault_text`` shows is logged, in tracebacks too.

structlog is loaded with the first line: a command that logs nothing does not wait for it.
"""

import logging
import re
import sys
import threading
from collections.abc import MutableMapping
from typing import Any

from worker.core.fault_text import cleaned, describe, render

NAME = "tenant_mirror"

_SECRET = re.compile(
    r"(://[^/\s:@]*:)\S+@"
    r"|(Bearer\s+)\S+"
    r"|((?:deltatoken|skiptoken|token|password)=)[^&\s\"']+",
    re.IGNORECASE,
)


def scrub(text: str) -> str:
    """Take passwords, bearer keys and cursor tokens out of a text."""
    return _SECRET.sub(lambda m: f"{m[1] or m[2] or m[3]}***{'@' if m[1] else ''}", text)


def _scrub_event(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _scrubbed(value)
    return event


def _scrubbed(value: Any) -> Any:
    match value:
        case str():
            return scrub(cleaned(value))
        case BaseException():
            return scrub(cleaned(describe(value)))
        case dict():
            return {scrub(str(key)): _scrubbed(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_scrubbed(one) for one in value]
    return value


def _rendered(exc_info: Any) -> str:
    return render(exc_info[1])


def _clean_record(record: logging.LogRecord) -> bool:
    """Put together what a library logs without the messages of database errors."""
    if isinstance(record.msg, str):
        record.args = _described(record.args)
        fault = record.exc_info[1] if record.exc_info else None
        record.msg, record.args = cleaned(record.getMessage(), fault), ()
    return True


def _described(arguments: Any) -> Any:
    """Arguments of a line; exceptions among them as text."""
    match arguments:
        case tuple():
            return tuple(_described(one) for one in arguments)
        case dict():
            return {name: _described(one) for name, one in arguments.items()}
        case BaseException():
            return describe(arguments)
    return arguments


def guard_stderr() -> None:
    """Have failures that nothing catches printed without what a database says about rows."""
    sys.excepthook = lambda _kind, fault, _at: _print(fault)
    threading.excepthook = lambda args: _print(args.exc_value)
    sys.unraisablehook = lambda args: _print(args.exc_value)


def _print(fault: BaseException | None) -> None:
    if fault is not None and sys.stderr is not None and not isinstance(fault, SystemExit):
        sys.stderr.write(scrub(cleaned(render(fault))) + "\n")


def configure(level: str = "INFO", fmt: str = "json") -> None:
    """Send our events and the libraries' warnings to standard error; all of theirs at DEBUG."""
    import structlog  # noqa: PLC0415

    ours: int = logging.getLevelName(level)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_rendered),
        _scrub_event,
    ]
    last = (
        structlog.processors.JSONRenderer()
        if fmt == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(ours),
        cache_logger_on_first_use=True,
    )
    guard_stderr()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_clean_record)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level if level == "DEBUG" else max(ours, logging.WARNING))
    logging.getLogger(NAME).setLevel(ours)
    # SQLAlchemy would log rows at DEBUG.
    for chatty in ("httpx", "httpcore", "kombu", "celery.redirected", "alembic", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _AtNeed(logging.Handler):
    """Configures logging when there is something to log, and has that logged."""

    def __init__(self, level: str, fmt: str) -> None:
        super().__init__()
        self._wanted = level, fmt

    def configure(self) -> None:
        configure(*self._wanted)

    def emit(self, record: logging.LogRecord) -> None:
        self.configure()
        logging.getLogger().handle(record)


def configure_at_need(level: str, fmt: str) -> None:
    """The same as configure, put off until the first line."""
    root = logging.getLogger()
    root.handlers[:] = [_AtNeed(level, fmt)]
    root.setLevel(logging.WARNING)


def logger() -> Any:
    import structlog  # noqa: PLC0415

    for handler in logging.getLogger().handlers:
        if isinstance(handler, _AtNeed):
            handler.configure()
    return structlog.get_logger(NAME)
