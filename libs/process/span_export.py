"""Spans on their way to an OpenTelemetry collector. Imported only where they are exported."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as SdkSpan

from libs.process.logs import get_logger
from libs.process.tracing import Attributes, Kind, fields_of

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
}
_COMPLAINING = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",
)
"""Loggers that speak of every try and of every batch while a collector is away."""

log = get_logger(__name__)


class OtlpSpans:
    """Batches spans in the background and sends them over OTLP/gRPC; a full queue drops them.

    Endpoint, headers, TLS, sampler and bounds are read by the SDK from its own variables;
    ValueError or OSError when one of them cannot be read.
    """

    def __init__(self, service_name: str) -> None:
        exporter = OTLPSpanExporter()
        self._exporter = _Watched(exporter)
        self._processor = BatchSpanProcessor(self._exporter)
        resource = Resource.create({SERVICE_NAME: service_name})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("pawl")

    def begin(self, name: str, parent: str, attributes: Attributes, kind: Kind) -> OtlpSpan:
        """A span under `parent`, sampled as that is; without a parent, as the sampler says."""
        started = self._tracer.start_span(
            name, context=_context_of(parent), kind=_KINDS[kind], attributes=dict(attributes)
        )
        return OtlpSpan(started)

    def close(self, seconds: float) -> None:
        """Export what is left, for at most so long; not at all while the collector is away."""
        flushing = threading.Thread(target=self._processor.shutdown, name="spans", daemon=True)
        if self._exporter.is_failing:
            self._exporter.give_up()
        flushing.start()
        flushing.join(seconds)
        if flushing.is_alive():
            log.warning("spans were left when the time was over", seconds=seconds)
            self._exporter.give_up()


class OtlpSpan:
    """A span of the SDK."""

    def __init__(self, started: SdkSpan) -> None:
        self._span = started
        context = started.get_span_context()
        self.traceparent = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        )

    def set(self, name: str, value: str | int) -> None:
        """Add an attribute."""
        self._span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)

    def fail(self, code: str) -> None:
        """Mark it as failed; the code is its error.type."""
        self._span.set_attribute("error.type", code)
        self._span.set_status(Status(StatusCode.ERROR))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._span.end()


class _Watched(SpanExporter):
    """An exporter that says once per outage that it fails, and once that it works again."""

    def __init__(self, inner: OTLPSpanExporter) -> None:
        self._inner = inner
        self._is_given_up = False
        self._complaint = ""
        self.is_failing = False
        for name in _COMPLAINING:
            logging.getLogger(name).addFilter(self._hear)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self.is_failing:
                self.is_failing = False
                log.info("spans are exported again")
        elif not self._is_given_up:
            self._fails(self._complaint or "the collector does not take them")
        return result

    def shutdown(self) -> None:
        self.give_up()
        for name in _COMPLAINING:
            logging.getLogger(name).removeFilter(self._hear)

    def give_up(self) -> None:
        """Break off what is being sent; all else is refused at once."""
        if not self._is_given_up:
            self._is_given_up = True
            self._inner.shutdown()

    def _hear(self, record: logging.LogRecord) -> bool:
        """Keep what the library says, let none of it pass: the same may come with every batch."""
        if record.levelno >= logging.WARNING and not self._is_given_up:
            self._complaint = record.getMessage()
            self._fails(self._complaint)
        return False

    def _fails(self, error: str) -> None:
        if not self.is_failing:
            self.is_failing = True
            log.warning("spans cannot be exported", error=error)


def _context_of(parent: str) -> Context:
    # Never the thread's own context: what is a parent is said in words.
    if not parent:
        return Context()
    trace_id, span_id, flags = fields_of(parent)
    remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(remote), Context())
