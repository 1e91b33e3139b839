"""The gRPC face of the executor: what it offers and what it runs."""

from __future__ import annotations

from typing import Any

import grpc

from libs.pb.pawl.executor.v1 import executor_service_pb2 as pb
from libs.pb.pawl.executor.v1.executor_service_pb2_grpc import (
    ExecutorServiceServicer,
    add_ExecutorServiceServicer_to_server,
)
from libs.rpc.context import OPERATOR, Caller, Principal, current
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
        """What this executor offers; what it runs now, for services and the operator."""
        del request, context
        tells_all = _may_see_all(current().principal)
        return pb.DescribeResponse(
            executor_id=self._identity.executor_id,
            boot_id=self._worker.boot_id,
            slots=self._identity.slots,
            tools=[tool_spec_to_proto(spec) for spec in self._registry.specs],
            running_task_ids=self._worker.running_task_ids if tells_all else (),
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


def _may_see_all(principal: Principal | None) -> bool:
    """An executor runs tasks of all tenants side by side."""
    return not isinstance(principal, Caller) or OPERATOR in principal.scopes
