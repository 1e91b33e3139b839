"""The services that the executor calls: scheduler (work), planner (its offer), artifact."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast
from uuid import UUID

import grpc

from libs.core.errors import FailureCode, PawlError, StepFailed
from libs.core.tool_spec import ToolSpec
from libs.pb.pawl.artifact.v1.artifact_service_pb2 import PutArtifactRequest
from libs.pb.pawl.artifact.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from libs.pb.pawl.planner.v1.planner_service_pb2 import RegisterToolsRequest, WithdrawToolsRequest
from libs.pb.pawl.planner.v1.planner_service_pb2_grpc import PlannerServiceStub
from libs.pb.pawl.scheduler.v1.work_service_pb2 import (
    RECALL_FOUND,
    RECALL_OTHER_INPUT,
    JudgeBootsRequest,
    RecallStepRequest,
    RecallStepResponse,
    WorkRequest,
    WorkResponse,
)
from libs.pb.pawl.scheduler.v1.work_service_pb2_grpc import WorkServiceStub
from libs.process.logs import get_logger
from libs.rpc.client import NO_DEADLINE, RpcChannel, StreamCall, on_behalf
from libs.rpc.convert import failure_from_proto, tool_spec_to_proto
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import ServiceTokens
from services.executor.model import JudgedBoots
from services.executor.tools.recorded import Found, RecordedAnswer
from services.executor.tools.tool import NewArtifact

WorkStream: TypeAlias = StreamCall[WorkRequest, WorkResponse]

_WITHDRAW_SECONDS = 2.0
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.1, 2.0
_AWAY = frozenset({"unavailable", "deadline_exceeded"})
_FOUND = {
    RECALL_FOUND: Found.YES,
    RECALL_OTHER_INPUT: Found.OTHER_INPUT,
}

log = get_logger(__name__)


class SchedulerClient:
    """Opens the Work stream; asks which boots are over, and what is on record for replays."""

    def __init__(self, channel: RpcChannel) -> None:
        self._stub = channel.stub(WorkServiceStub)

    def open_work(self) -> WorkStream:
        """A new stream. It stays open for as long as both sides live."""
        return cast("WorkStream", self._stub.Work(timeout=NO_DEADLINE))

    async def recall(
        self, *, task_id: UUID, lease_token: int, step_index: int, input_sha256: str
    ) -> RecordedAnswer:
        """What the original of a replay came to in a step with that input.

        A scheduler that is away is asked again, as it is told of reports: the step's own time ends
        the wait. Raises StepFailed(TOOL_ERROR, reason RECORDING_UNREADABLE).
        """
        request = RecallStepRequest(
            task_id=str(task_id),
            lease_token=lease_token,
            step_index=step_index,
            input_sha256=input_sha256,
        )
        delay = _FIRST_DELAY_SECONDS
        while True:
            try:
                return _answer(await self._stub.RecallStep(request))
            except PawlError as error:
                if error.code not in _AWAY:
                    message = f"the record could not be read: {error.message}"
                    raise StepFailed(
                        FailureCode.TOOL_ERROR, message, reason="RECORDING_UNREADABLE"
                    ) from error
                log.warning("record cannot be read yet", code=error.code, error=error.message)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)

    async def judge_boots(self, boot_ids: Collection[str]) -> JudgedBoots:
        """What is known of boots of executors, at most 1000. Raises PawlError."""
        said = await self._stub.JudgeBoots(JudgeBootsRequest(boot_ids=boot_ids))
        return JudgedBoots(ended=frozenset(said.ended), unknown=frozenset(said.unknown))


def _answer(message: RecallStepResponse) -> RecordedAnswer:
    """What a record says of a step; a word that is not known means: nothing that can be used."""
    return RecordedAnswer(
        found=_FOUND.get(message.recall, Found.NOT_FINISHED),
        of_task_id=message.of_task_id,
        output_json=message.output_json if message.HasField("output_json") else None,
        failure=failure_from_proto(message.failure) if message.HasField("failure") else None,
    )


async def write_last(stream: WorkStream, message: WorkRequest) -> None:
    """Send the last message of a stream and say that it is the last. Raises PawlError."""
    await stream.write(message)
    try:
        await stream.done_writing()
    except (grpc.aio.AioRpcError, grpc.aio.InternalError) as error:
        raise PawlError("unavailable", "the stream has ended", retry_after_seconds=1) from error


class PlannerClient:
    """Says what this executor offers."""

    def __init__(
        self, channel: RpcChannel, *, executor_id: str, boot_id: Callable[[], str]
    ) -> None:
        self._stub = channel.stub(PlannerServiceStub)
        self._executor_id = executor_id
        self._boot_id = boot_id

    async def register(self, specs: Sequence[ToolSpec]) -> None:
        """Announce the tools, or renew the announcement. Raises PawlError."""
        await self._stub.RegisterTools(
            RegisterToolsRequest(
                executor_id=self._executor_id,
                boot_id=self._boot_id(),
                tools=[tool_spec_to_proto(spec) for spec in specs],
            )
        )

    async def withdraw(self) -> None:
        """Take the announcement back. Raises PawlError."""
        request = WithdrawToolsRequest(executor_id=self._executor_id, boot_id=self._boot_id())
        await self._stub.WithdrawTools(request, timeout=_WITHDRAW_SECONDS)


class ArtifactClient:
    """Stores what steps emit, each call on behalf of its task."""

    def __init__(self, channel: RpcChannel) -> None:
        self._stub = channel.stub(ArtifactServiceStub)

    async def put(self, artifact: NewArtifact) -> str:
        """Store an artifact as staged; returns the SHA-256 (hex) of what is stored.

        Raises StepFailed(ARTIFACT_STORE).
        """
        request = PutArtifactRequest(
            task_id=str(artifact.task_id),
            step_index=artifact.step_index,
            ordinal=artifact.ordinal,
            type=artifact.type,
            data_json=artifact.data_json,
        )
        try:
            with on_behalf(tenant_id=artifact.tenant_id, task_id=artifact.task_id):
                response = await self._stub.PutArtifact(request)
        except PawlError as error:
            message = f"the artifact could not be stored: {error.message}"
            raise StepFailed(
                FailureCode.ARTIFACT_STORE, message, reason=error.code.upper()
            ) from error
        return response.artifact.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """The channels to the three services."""

    scheduler: RpcChannel
    planner: RpcChannel
    artifact: RpcChannel

    async def close(self) -> None:
        """Close them all."""
        for channel in (self.scheduler, self.planner, self.artifact):
            await channel.close()


def open_channels(
    *,
    scheduler: str,
    planner: str,
    artifact: str,
    tokens: ServiceTokens,
    tls: TlsFiles | None = None,
) -> Channels:
    """Channels to the given targets (host:port); they connect when they are used."""
    return Channels(
        scheduler=RpcChannel(scheduler, audience="scheduler", tokens=tokens, tls=tls),
        planner=RpcChannel(planner, audience="planner", tokens=tokens, tls=tls),
        artifact=RpcChannel(artifact, audience="artifact", tokens=tokens, tls=tls),
    )
