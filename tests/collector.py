"""A collector of OpenTelemetry spans: takes what is exported over OTLP/gRPC and keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenSpan:
    """A span as it arrived. Ids are hex digits; `parent_id` is empty for the first of a trace."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    failed: bool
    attributes: dict[str, str | int]


class Collector(pb_grpc.TraceServiceServicer):
    """Keeps every span, in the order of arrival."""

    def __init__(self) -> None:
        self.spans: list[TakenSpan] = []
        self.url = ""

    def Export(
        self, request: pb.ExportTraceServiceRequest, context: object
    ) -> pb.ExportTraceServiceResponse:
        del context
        for resource in request.resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [
                    TakenSpan(
                        service=str(service),
                        name=one.name,
                        trace_id=one.trace_id.hex(),
                        span_id=one.span_id.hex(),
                        parent_id=one.parent_span_id.hex(),
                        failed=one.status.code == Status.STATUS_CODE_ERROR,
                        attributes=_values(one.attributes),
                    )
                    for one in scope.spans
                ]
        return pb.ExportTraceServiceResponse()


@contextmanager
def collector(*, port: int = 0) -> Iterator[Collector]:
    """A collector that listens on loopback, on any free port unless one is named."""
    taken = Collector()
    server: Any = grpc.server(ThreadPoolExecutor(max_workers=2))
    register: Any = pb_grpc.add_TraceServiceServicer_to_server
    register(taken, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    taken.url = f"http://127.0.0.1:{bound}"
    try:
        yield taken
    finally:
        server.stop(None).wait()


def _values(pairs: Any) -> dict[str, str | int]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> str | int:
    kind = pair.value.WhichOneof("value")
    if kind == "int_value":
        return pair.value.int_value
    return pair.value.string_value
