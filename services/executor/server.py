"""The gRPC face of the executor: what it offers and what it runs."""

from __future__ import annotations

from typing import Any

import grpc

from libs.pb.pawl.executor.v1 import executor_service_pb2 as pb
from libs.pb.pawl.executor.v1.executor_service_pb2_grpc import (
    ExecutorServiceServicer,
    add_ExecutorServiceServicer_to_server,
)
from libs.rpc.convert import tool_spec_to_proto
from libs.rpc.server import RpcServer
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import TokenVerifier
from services.executor.access import ACCESS, SERVICE
from services.executor.tools.registry import ToolRegistry
from services.executor.worker import Identity, Worker


class ExecutorServer(ExecutorServiceServicer):
    """pawl.executor.v1.ExecutorService."""

    def __init__(self, *, identity: Identity, registry: ToolRegistry, worker: Worker) -> None:
        self._identity = identity
        self._worker = worker
        self._registry = registry

    async def Describe(
        self, request: pb.DescribeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DescribeResponse:
        """What this executor offers and runs now."""
        del request, context
        return pb.DescribeResponse(
            executor_id=self._identity.executor_id,
            boot_id=self._worker.boot_id,
            slots=self._identity.slots,
            tools=[tool_spec_to_proto(spec) for spec in self._registry.specs],
            running_task_ids=self._worker.running_task_ids,
            connected=self._worker.connected.is_set(),
        )


def make_server(
    servicer: ExecutorServer,
    *,
    address: str,
    verifier: TokenVerifier,
    tls: TlsFiles | None = None,
) -> RpcServer:
    """A server for it, not started yet."""
    server = RpcServer(
        service="executor", address=address, verifier=verifier, access=ACCESS, tls=tls
    )
    server.add(add_ExecutorServiceServicer_to_server, servicer, SERVICE)
    return server
