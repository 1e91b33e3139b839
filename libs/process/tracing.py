"""W3C trace context: every piece of work has a traceparent; as a span it is exported when asked."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Protocol, Self

from libs.process.env import ConfigError, Env

FLUSH_SECONDS = 2.0
"""How long the end of a process waits for its last spans to be taken."""

Attributes = Mapping[str, str | int]
Kind = Literal["internal", "server", "consumer"]

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Span(Protocol):
    """A piece of work, to be entered once. It fails only when it is told so: raising ends it."""

    @property
    def traceparent(self) -> str:
        """What goes on to whatever this work causes."""
        ...

    def set(self, name: str, value: str | int) -> None:
        """Add an attribute: an id, a name, a code; never an input or an output."""
        ...

    def rename(self, name: str) -> None:
        """Give it the name that was not known when it began."""
        ...

    def fail(self, code: str) -> None:
        """Say that the work failed, and with which code."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None: ...


class Spans(Protocol):
    """Where spans go when they are exported."""

    def begin(self, name: str, parent: str, attributes: Attributes, kind: Kind) -> Span:
        """A span under `parent`, or one without a parent when that is empty."""
        ...

    def close(self, seconds: float) -> None:
        """Export what is left, for at most so long."""
        ...


_spans: Spans | None = None


def configure_tracing(service: str, environ: Mapping[str, str]) -> None:
    """Export the spans of this process over OTLP/gRPC when `environ` names an endpoint.

    The variables are OpenTelemetry's own. Without an endpoint, with OTEL_SDK_DISABLED=true or with
    OTEL_TRACES_EXPORTER=none nothing is imported. ConfigError when a protocol other than grpc, or
    an exporter other than otlp, is asked for, or a variable cannot be read.
    """
    global _spans  # noqa: PLW0603 - one process has one place for its spans, as for its logs
    env = Env(environ)
    if not any(map(env.optional_text, _ENDPOINTS)) or is_off(env):
        return
    if env.choice("OTEL_TRACES_EXPORTER", ("otlp",), default="otlp"):
        for name in _PROTOCOLS:
            env.choice(name, ("grpc",), default="grpc")
    env.check()
    from libs.process.span_export import OtlpSpans

    try:
        _spans = OtlpSpans(f"pawl-{service}")
    except (ValueError, OSError) as error:
        raise ConfigError(f"spans cannot be exported: {error}") from error


def is_off(env: Env) -> bool:
    """Whether OpenTelemetry is switched off although an endpoint is named."""
    disabled = (env.optional_text("OTEL_SDK_DISABLED") or "").lower() == "true"
    return disabled or env.optional_text("OTEL_TRACES_EXPORTER") == "none"


def stop_tracing() -> None:
    """Export what is left, for at most FLUSH_SECONDS; spans that begin later are not exported."""
    global _spans
    spans, _spans = _spans, None
    if spans is not None:
        spans.close(FLUSH_SECONDS)


def is_exported() -> bool:
    """Whether spans go anywhere; where many would be made at once, it is cheaper to ask first."""
    return _spans is not None


def span(
    name: str,
    *,
    traceparent: str,
    attributes: Attributes | None = None,
    kind: Kind = "internal",
) -> Span:
    """A piece of work caused by `traceparent`; without one, or a malformed one, it begins a trace.

    When nothing is exported, a traceparent goes on as it came and a new one is not sampled.
    """
    parent = traceparent if is_traceparent(traceparent) else ""
    if _spans is not None:
        return _spans.begin(name, parent, attributes or {}, kind)
    return UnexportedSpan(parent or new_traceparent())


class UnexportedSpan:
    """Passes its traceparent on, and is nothing else."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent

    def set(self, name: str, value: str | int) -> None:
        """Nobody reads it."""

    def rename(self, name: str) -> None:
        """Nobody reads it."""

    def fail(self, code: str) -> None:
        """Nobody reads it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Nothing to end."""


def is_traceparent(text: str) -> bool:
    """Whether it is a well-formed W3C traceparent of version 00."""
    return _TRACEPARENT.fullmatch(text) is not None


def fields_of(traceparent: str) -> tuple[int, int, int]:
    """Trace id, span id and flags of a well-formed traceparent."""
    _, trace_id, span_id, flags = traceparent.split("-")
    return int(trace_id, 16), int(span_id, 16), int(flags, 16)


def trace_id_of(traceparent: str) -> str:
    """The trace id as 32 hex digits; empty when there is no well-formed traceparent."""
    return traceparent[3:35] if is_traceparent(traceparent) else ""


def new_traceparent() -> str:
    """The beginning of a trace that is not sampled."""
    # All zeros is not allowed; that 128 random bits are, happens never.
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
