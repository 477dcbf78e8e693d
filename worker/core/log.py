"""Logging: one JSON object a line, with the connection and run bound, and without secrets.

We log ids, counts and our own sentences. Bodies, tokens, links and URLs with a query must not be
logged, which is why libraries log warnings only. Database errors quote rows and parameters: of
those, only what ``error_text`` renders is logged, in tracebacks too.

structlog is imported with the first line, so commands that log nothing start faster.
"""

import logging
import re
import sys
import threading
from collections.abc import MutableMapping
from typing import Any

from worker.core.error_text import redact_database_text, render_error, render_traceback
from worker.core.printable import to_one_line, to_plain_lines

LOGGER_NAME = "tenant_mirror"

_LINES_OF_OURS = frozenset({"exception", "stack"})
"""Keys of a log line whose values have several lines."""

_SECRET = re.compile(
    r"(://[^/\s:@]*:)\S+@"
    r"|(Bearer\s+)\S+"
    r"|((?:deltatoken|skiptoken|token|password)=)[^&\s\"']+"
    r"|(tm_[0-9a-f]{10}_)[A-Za-z0-9_-]{43}",
    re.IGNORECASE,
)


def redact_secrets(text: str) -> str:
    """Remove passwords, bearer keys, tokens of ours and cursor tokens from a text."""
    return _SECRET.sub(lambda m: f"{m[1] or m[2] or m[3] or m[4]}***{'@' if m[1] else ''}", text)


def _redact_event(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _redact_value(value)
    return event


def _redact_value(value: Any) -> Any:
    match value:
        case str():
            return redact_secrets(redact_database_text(value))
        case BaseException():
            return redact_secrets(redact_database_text(render_error(value)))
        case dict():
            return {redact_secrets(str(key)): _redact_value(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redact_value(one) for one in value]
    return value


def _make_printable(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace what could control a terminal. JSON escapes such characters itself."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = (to_plain_lines if key in _LINES_OF_OURS else to_one_line)(value)
    return event


def _render_exc_info(exc_info: Any) -> str:
    return render_traceback(exc_info[1])


def _redact_record(record: logging.LogRecord) -> bool:
    """Render a library's log record without the messages of database errors."""
    if isinstance(record.msg, str):
        record.args = _render_arguments(record.args)
        error = record.exc_info[1] if record.exc_info else None
        record.msg, record.args = redact_database_text(record.getMessage(), error), ()
    return True


def _render_arguments(arguments: Any) -> Any:
    """Return the arguments of a record, with exceptions as safe text."""
    match arguments:
        case tuple():
            return tuple(_render_arguments(one) for one in arguments)
        case dict():
            return {name: _render_arguments(one) for name, one in arguments.items()}
        case BaseException():
            return render_error(arguments)
    return arguments


def install_exception_hooks() -> None:
    """Print uncaught exceptions without the messages of database errors."""
    sys.excepthook = lambda _kind, fault, _at: _print_redacted(fault)
    threading.excepthook = lambda args: _print_redacted(args.exc_value)
    sys.unraisablehook = lambda args: _print_redacted(args.exc_value)


def _print_redacted(error: BaseException | None) -> None:
    if error is not None and sys.stderr is not None and not isinstance(error, SystemExit):
        shown = redact_secrets(redact_database_text(render_traceback(error)))
        sys.stderr.write(to_plain_lines(shown) + "\n")


def configure_logging(level: str = "INFO", fmt: str = "json") -> None:
    """Log our events and the libraries' warnings to stderr; at DEBUG, all of theirs."""
    import structlog  # noqa: PLC0415

    ours: int = logging.getLevelName(level)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_render_exc_info),
        _redact_event,
    ]
    last: list[Any] = (
        [structlog.processors.JSONRenderer()]
        if fmt == "json"
        else [_make_printable, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(ours),
        cache_logger_on_first_use=True,
    )
    install_exception_hooks()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_redact_record)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level if level == "DEBUG" else max(ours, logging.WARNING))
    logging.getLogger(LOGGER_NAME).setLevel(ours)
    # SQLAlchemy would log rows at DEBUG.
    for chatty in ("httpx", "httpcore", "kombu", "celery.redirected", "alembic", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _LazyHandler(logging.Handler):
    """Configures logging at the first record, then logs it."""

    def __init__(self, level: str, fmt: str) -> None:
        super().__init__()
        self._arguments = level, fmt

    def configure(self) -> None:
        configure_logging(*self._arguments)

    def emit(self, record: logging.LogRecord) -> None:
        self.configure()
        logging.getLogger().handle(record)


def configure_logging_lazily(level: str, fmt: str) -> None:
    """Call ``configure_logging`` at the first record."""
    root = logging.getLogger()
    root.handlers[:] = [_LazyHandler(level, fmt)]
    root.setLevel(logging.WARNING)


def get_logger() -> Any:
    import structlog  # noqa: PLC0415

    for handler in logging.getLogger().handlers:
        if isinstance(handler, _LazyHandler):
            handler.configure()
    return structlog.get_logger(LOGGER_NAME)
