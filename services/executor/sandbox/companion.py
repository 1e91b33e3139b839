"""The sandbox of an executor that holds no engine: a process beside it, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from uuid import uuid4

import grpc

from libs.core.errors import FailureCode, PawlError, StepFailed
from libs.pb.pawl.executor.v1 import sandbox_service_pb2 as pb
from libs.pb.pawl.executor.v1.sandbox_service_pb2_grpc import SandboxServiceStub
from libs.process.logs import get_logger
from libs.rpc.client import RpcChannel
from services.executor.sandbox.model import (
    CodeRequest,
    CodeResult,
    SandboxIdentity,
    SandboxUnavailable,
    Spent,
    untold,
)

CONNECT_SECONDS = 2.0
KILL_SECONDS = 5.0
TOLD_SECONDS = 1.0
SPARE_SECONDS = 30.0
"""Beyond the code's own time: for a guest to be made, the code to be killed, the way there."""

LOOK_SECONDS = 1.0
LOOK_TIMEOUT_SECONDS = 2.0
MAX_FAILURES = 3

_NOT_RUN = frozenset(
    {"unauthenticated", "permission_denied", "validation_failed", "bad_request", "conflict"}
)

log = get_logger(__name__)


class CompanionSandbox:
    """A Sandbox over the process that `channel` leads to. Nothing is tried twice.

    `boot_id` is asked before each run: the start of the executor for which it is. How the process
    is, is asked every `look_seconds`: whether anybody wants to run something or not.
    """

    def __init__(
        self,
        channel: RpcChannel,
        *,
        identity: SandboxIdentity,
        boot_id: Callable[[], str],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._channel = channel
        self._stub = channel.stub(SandboxServiceStub)
        self._identity = identity
        self._boot_id = boot_id
        self._failures = 0
        self._other: SandboxIdentity | None = None
        self._looking = asyncio.create_task(self._look(look_seconds))

    @classmethod
    async def open(
        cls,
        channel: RpcChannel,
        *,
        boot_id: Callable[[], str],
        connect_seconds: float = CONNECT_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> CompanionSandbox:
        """Ask the process which sandbox it is. Raises SandboxUnavailable.

        `connect_seconds` is how long it may take until it can be reached.
        """
        try:
            await channel.ready(connect_seconds)
            said = await channel.stub(SandboxServiceStub).DescribeSandbox(
                pb.DescribeSandboxRequest()
            )
        except PawlError as error:
            raise SandboxUnavailable(f"the sandbox: {error.message}") from error
        identity = _identity_from_proto(said.identity)
        return cls(channel, identity=identity, boot_id=boot_id, look_seconds=look_seconds)

    @property
    def identity(self) -> SandboxIdentity:
        """As Sandbox.identity: that of the process when this was opened."""
        return self._identity

    @property
    def is_healthy(self) -> bool:
        """As Sandbox.is_healthy: false when the process says so, is another one now, or has not
        answered several times in a row.
        """
        return self._other is None and self._failures < MAX_FAILURES

    async def run(self, request: CodeRequest, *, spent: Spent = untold) -> CodeResult:
        """As Sandbox.run. Once the code is on its way, a lost connection is SANDBOX_LOST; nobody
        knows then what was spent, and nothing is told.
        """
        try:
            await self._channel.ready(CONNECT_SECONDS)
        except PawlError as error:
            raise _unavailable(error.message) from error
        asked = self._request(request)
        response = await self._ask(asked, wall_seconds=request.wall_seconds, spent=spent)
        if response.HasField("failure"):
            raise _failure_from_proto(response.failure)
        result = response.result
        return CodeResult(
            result_json=result.result_json, stdout=result.stdout, stderr=result.stderr
        )

    async def boots(self) -> frozenset[str]:
        """As Sandbox.boots. Raises SandboxUnavailable."""
        try:
            said = await self._stub.ListBoots(pb.ListBootsRequest())
        except PawlError as error:
            raise SandboxUnavailable(f"the sandbox: {error.message}") from error
        return frozenset(said.boot_ids)

    async def remove(self, boots: Collection[str]) -> int:
        """As Sandbox.remove. Raises SandboxUnavailable."""
        try:
            said = await self._stub.RemoveBoots(pb.RemoveBootsRequest(boot_ids=sorted(boots)))
        except PawlError as error:
            raise SandboxUnavailable(f"the sandbox: {error.message}") from error
        return said.removed

    async def close(self) -> None:
        """As Sandbox.close: ends what runs, by ending the connection."""
        self._looking.cancel()
        await asyncio.wait({self._looking})
        await self._channel.close()

    def _request(self, request: CodeRequest) -> pb.RunCodeRequest:
        identity = self._identity
        return pb.RunCodeRequest(
            code=request.code,
            input_json=request.input_json,
            seed=request.seed,
            now=request.now,
            wall_seconds=request.wall_seconds,
            boot_id=self._boot_id(),
            run_id=str(uuid4()),
            identity=pb.SandboxIdentity(
                backend=identity.backend, python=identity.python, build=identity.build
            ),
        )

    async def _ask(
        self, request: pb.RunCodeRequest, *, wall_seconds: float, spent: Spent
    ) -> pb.RunCodeResponse:
        call = asyncio.ensure_future(
            self._stub.RunCode(request, timeout=wall_seconds + SPARE_SECONDS)
        )
        # What it ends with counts only where somebody still waits for it.
        call.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            # Ending the call would kill the code as well, but nobody would say when it is dead.
            if await self._kill(request.run_id):
                # Now that it is dead, its own answer says how long it ran.
                await asyncio.wait({call}, timeout=TOLD_SECONDS)
                _tell(call, spent)
            raise
        finally:
            call.cancel()
        _tell(call, spent)
        try:
            return call.result()
        except PawlError as error:
            if error.code in _NOT_RUN or _was_full(error):
                raise _unavailable(error.message) from error
            message = f"the sandbox was lost while it ran the code: {error.message}"
            raise StepFailed(FailureCode.SANDBOX_LOST, message) from error

    async def _kill(self, run_id: str) -> bool:
        """Whether it ran until now; false too when nobody says."""
        asked = pb.KillRunRequest(run_id=run_id)
        try:
            return (await self._stub.KillRun(asked, timeout=KILL_SECONDS)).killed
        except PawlError as error:
            log.warning("sandbox does not say that the code is dead", error=error.message)
            return False

    async def _look(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                said = await self._stub.DescribeSandbox(
                    pb.DescribeSandboxRequest(), timeout=LOOK_TIMEOUT_SECONDS
                )
            except PawlError:
                # Why there is no connection stands in the log of the channel.
                self._failures += 1
                continue
            self._failures = 0 if said.healthy else MAX_FAILURES
            self._compare(_identity_from_proto(said.identity))

    def _compare(self, now: SandboxIdentity) -> None:
        """The version of the tool says which sandbox it is, and an executor offers one for life."""
        other = None if now == self._identity else now
        if other is not None and other != self._other:
            log.error(
                "the sandbox is another one now; an executor takes it when it starts",
                was=self._identity.build,
                now=now.build,
            )
        self._other = other


def _tell(call: asyncio.Future[pb.RunCodeResponse], spent: Spent) -> None:
    """Tell what an answer says was spent."""
    if call.done() and not call.cancelled() and call.exception() is None:
        seconds = call.result().ran_seconds
        if seconds > 0:
            spent(seconds)


def _unavailable(why: str) -> StepFailed:
    message = f"the sandbox cannot run code now: {why}; nothing of it was run"
    return StepFailed(FailureCode.SANDBOX_UNAVAILABLE, message)


def _identity_from_proto(said: pb.SandboxIdentity) -> SandboxIdentity:
    return SandboxIdentity(backend=said.backend, python=said.python, build=said.build)


def _was_full(error: PawlError) -> bool:
    """Whether the other side had no place for another call."""
    cause = error.__cause__
    return (
        isinstance(cause, grpc.aio.AioRpcError)
        and cause.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    )


def _failure_from_proto(failure: pb.CodeFailure) -> StepFailed:
    try:
        code = FailureCode(failure.code)
    except ValueError:
        # Of a later release.
        code = FailureCode.SANDBOX_ERROR
    reason = failure.reason if failure.HasField("reason") else None
    return StepFailed(code, failure.message, reason=reason)
