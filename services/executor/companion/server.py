"""The gRPC face of the sandbox: code in, how it ended out."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

import grpc

from libs.core.canonical import canonical_text, read_canonical
from libs.core.errors import FailureCode, PawlError, StepFailed, field_error
from libs.pb.pawl.executor.v1 import sandbox_service_pb2 as pb
from libs.pb.pawl.executor.v1.sandbox_service_pb2_grpc import (
    SandboxServiceServicer,
    add_SandboxServiceServicer_to_server,
)
from libs.rpc.server import RpcServer
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import TokenVerifier
from services.executor.companion.access import ACCESS, SERVICE
from services.executor.companion.runs import RunEnded, Runs
from services.executor.sandbox.model import CodeRequest, CodeResult, Sandbox, SandboxIdentity

MAX_CALLS = 256
"""At once: each may bring 4 MiB."""

MAX_WALL_SECONDS = 3600.0
DRAIN_SECONDS = 12.0

Context = grpc.aio.ServicerContext[Any, Any]


class SandboxServer(SandboxServiceServicer):
    """pawl.executor.v1.SandboxService."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._runs = Runs()

    async def DescribeSandbox(
        self, request: pb.DescribeSandboxRequest, context: Context
    ) -> pb.DescribeSandboxResponse:
        """Which sandbox this is."""
        del request, context
        return pb.DescribeSandboxResponse(
            identity=_identity_to_proto(self._sandbox.identity), healthy=self._sandbox.is_healthy
        )

    async def RunCode(self, request: pb.RunCodeRequest, context: Context) -> pb.RunCodeResponse:
        """Run it once."""
        del context
        code = _code_from_proto(request)
        self._check_identity(request.identity)
        if request.run_id in self._runs:
            raise field_error("validation_failed", "run_id", f"{request.run_id} runs already")
        answer = pb.RunCodeResponse()

        def spent(seconds: float) -> None:
            answer.ran_seconds = seconds

        work = self._sandbox.run(code, spent=spent)
        try:
            result = await self._runs.hold(request.run_id, boot_id=request.boot_id, work=work)
        except StepFailed as failed:
            answer.failure.CopyFrom(_failure_to_proto(failed))
        except RunEnded:
            killed = StepFailed(FailureCode.SANDBOX_LOST, "the code was killed from outside")
            answer.failure.CopyFrom(_failure_to_proto(killed))
        else:
            answer.result.CopyFrom(_result_to_proto(result))
        return answer

    async def KillRun(self, request: pb.KillRunRequest, context: Context) -> pb.KillRunResponse:
        """End one run."""
        del context
        return pb.KillRunResponse(killed=await self._runs.end(request.run_id))

    async def ListBoots(
        self, request: pb.ListBootsRequest, context: Context
    ) -> pb.ListBootsResponse:
        """For whom something runs."""
        del request, context
        return pb.ListBootsResponse(boot_ids=sorted(self._runs.boots))

    async def RemoveBoots(
        self, request: pb.RemoveBootsRequest, context: Context
    ) -> pb.RemoveBootsResponse:
        """End what runs for these."""
        del context
        removed = await self._runs.end_boots(frozenset(request.boot_ids))
        return pb.RemoveBootsResponse(removed=removed)

    def _check_identity(self, asked: pb.SandboxIdentity) -> None:
        ours = self._sandbox.identity
        if asked != _identity_to_proto(ours):
            # Its results would be hashed under the name of the other.
            raise PawlError(
                "conflict",
                f"identity is {asked.backend} {asked.python} {asked.build}; this sandbox is "
                f"{ours.backend} {ours.python} {ours.build}: executors take it when they start",
            )


def make_server(
    servicer: SandboxServer,
    *,
    address: str,
    verifier: TokenVerifier,
    tls: TlsFiles | None = None,
) -> RpcServer:
    """A server for it, not started yet."""
    server = RpcServer(
        service="sandbox",
        address=address,
        verifier=verifier,
        access=ACCESS,
        tls=tls,
        max_concurrent_rpcs=MAX_CALLS,
        drain_seconds=DRAIN_SECONDS,
    )
    server.add(add_SandboxServiceServicer_to_server, servicer, SERVICE)
    return server


def _code_from_proto(request: pb.RunCodeRequest) -> CodeRequest:
    for name in ("boot_id", "run_id"):
        _check_uuid(name, getattr(request, name))
    if not 0 < request.wall_seconds <= MAX_WALL_SECONDS:
        detail = f"{request.wall_seconds} is not above 0 and at most {MAX_WALL_SECONDS:g}"
        raise field_error("validation_failed", "wall_seconds", detail)
    if not math.isfinite(request.now):
        raise field_error("validation_failed", "now", f"{request.now} is no time")
    return CodeRequest(
        code=request.code,
        input_json=_input_from_proto(request.input_json),
        seed=request.seed,
        now=request.now,
        wall_seconds=request.wall_seconds,
    )


def _input_from_proto(text: str) -> str:
    """Written anew: what reaches a guest is one value of JSON, as an executor writes it."""
    try:
        return canonical_text(read_canonical(text))
    except (ValueError, RecursionError) as error:
        raise field_error("validation_failed", "input_json", f"it is no JSON: {error}") from error


def _check_uuid(name: str, text: str) -> None:
    try:
        UUID(text)
    except ValueError as error:
        raise field_error("validation_failed", name, f"{text!r} is no UUID") from error


def _identity_to_proto(identity: SandboxIdentity) -> pb.SandboxIdentity:
    return pb.SandboxIdentity(
        backend=identity.backend, python=identity.python, build=identity.build
    )


def _result_to_proto(result: CodeResult) -> pb.CodeResult:
    return pb.CodeResult(result_json=result.result_json, stdout=result.stdout, stderr=result.stderr)


def _failure_to_proto(failed: StepFailed) -> pb.CodeFailure:
    return pb.CodeFailure(code=failed.code, message=failed.message, reason=failed.reason)
