"""Logs: one JSON object per line on stderr, with request and task, without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

REDACTED = "[redacted]"

_FIRST = ("at", "level", "event", "service")
_ALWAYS_SECRET = ("authorization", "secret", "password", "cookie")
_SECRET_IF_LONG = ("token", "key")
_LONG_TOKEN = re.compile(r"[A-Za-z0-9_\-+/=.]{24,}")
_UUID = re.compile(r"(?:[a-z]+_)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"""
      \b(?:pawl|atx|ra)_(?:live|test)_[A-Za-z0-9]{16,}       # API keys
    | \beyJ[\w-]+\.[\w-]+\.[\w-]*                            # signed tokens
    | \bwhsec_[A-Za-z0-9+/=]+                                # webhook secrets
    | (?<=Bearer[ ])\S+
    | (?<=://)[^/\s:@]*:[^/\s@]+(?=@)                        # user:password of a URL
    | (?<=\bpassword=)\S+
    """,
    re.VERBOSE,
)


class _LastingStream:
    """A stream that drops what it cannot write: a full disk takes lines, never the process."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry `name`: `log.info("task claimed", task_id=...)`."""
    return cast("FilteringBoundLogger", structlog.get_logger(module=name))


def configure_logs(service: str, *, level: str = "info") -> None:
    """Send every log line of this process to stderr, those of libraries included.

    Fields: `at` (ISO 8601, UTC), `level`, `event`, `service`, and whatever is bound with
    structlog's contextvars (request_id, task_id, tenant_id). `level` is one of debug, info,
    warning, error.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared = _processors(service)
    stream = cast("TextIO", _LastingStream(sys.stderr))
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_to_json)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_to_json),
            ],
        )
    )
    logging.root.handlers = [handler]
    # Libraries say at info what Pawl says itself, once per connection.
    logging.root.setLevel(max(number, logging.WARNING) if number > logging.DEBUG else number)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take secrets out of an event: by the name of the field and by the look of the value."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _redact_field(name.lower(), value)
        elif isinstance(value, dict):
            event[name] = redact(None, "", dict(value))
        elif isinstance(value, (list, tuple)):
            event[name] = [
                _redact_field(name.lower(), v) if isinstance(v, str) else v for v in value
            ]
    return event


def _redact_field(name: str, value: str) -> str:
    if any(word in name for word in _ALWAYS_SECRET):
        return REDACTED
    if any(word in name for word in _SECRET_IF_LONG) and _LONG_TOKEN.fullmatch(value):
        return value if _UUID.fullmatch(value) else REDACTED
    return _SECRET_TEXT.sub(REDACTED, value)


def _processors(service: str) -> list[Processor]:
    def add_service(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        add_service,
        structlog.processors.format_exc_info,
        redact,
    ]


def _add_logger_name(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["module"] = record.name
    return event


def _to_json(event: EventDict, **_options: Any) -> str:
    ordered = {name: event.pop(name) for name in _FIRST if name in event} | dict(event)
    try:
        return orjson.dumps(ordered, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Lone surrogates, or a whole number beyond 64 bits: no reason to fail whoever says it.
        return json.dumps(ordered, default=str, skipkeys=True)
