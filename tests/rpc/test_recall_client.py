"""How an executor reads a record: over real gRPC, from a scheduler that may be away for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from libs.core.errors import Failure, FailureCode, PawlError, StepFailed
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as pb
from libs.pb.pawl.scheduler.v1.work_service_pb2_grpc import (
    WorkServiceServicer,
    add_WorkServiceServicer_to_server,
)
from libs.rpc.client import RpcChannel
from libs.rpc.convert import failure_to_proto
from libs.rpc.server import RpcServer
from libs.rpc.tokens import KeyRing, ServiceTokens, TokenVerifier
from services.executor.clients import SchedulerClient
from services.executor.tools.recorded import Found, RecordedAnswer
from tests.fake_scheduler import METHODS, WORK

TASK = UUID(int=7)
BROKE = Failure(code=FailureCode.TIMEOUT, message="it was slow", step_index=2, reason="WALL")


@dataclass
class Records(WorkServiceServicer):
    """Refuses as often as it is told to, then answers."""

    answer: pb.RecallStepResponse
    refusals: list[str] = field(default_factory=list)
    asked: list[pb.RecallStepRequest] = field(default_factory=list)

    async def RecallStep(
        self, request: pb.RecallStepRequest, context: object
    ) -> pb.RecallStepResponse:
        del context
        self.asked.append(request)
        if self.refusals:
            raise PawlError(self.refusals.pop(0), "not now", retry_after_seconds=1)
        return self.answer


@asynccontextmanager
async def client_of(records: Records, keys: KeyRing) -> AsyncIterator[SchedulerClient]:
    server = RpcServer(
        service="scheduler",
        address="127.0.0.1:0",
        verifier=TokenVerifier(keys.public, audience="scheduler"),
        access={f"/{WORK}/{name}": frozenset({"executor"}) for name in METHODS},
        drain_seconds=0.1,
    )
    server.add(add_WorkServiceServicer_to_server, records, WORK)
    tokens = ServiceTokens("executor", keys.private["executor"])
    channel = RpcChannel(f"127.0.0.1:{await server.start()}", audience="scheduler", tokens=tokens)
    try:
        yield SchedulerClient(channel)
    finally:
        await channel.close()
        await server.stop()


async def recalled(keys: KeyRing, records: Records) -> RecordedAnswer:
    async with client_of(records, keys) as client:
        return await client.recall(
            task_id=TASK, lease_token=3, step_index=2, input_sha256="ab" * 32
        )


def make_records(*refusals: str, **answer: Any) -> Records:
    said: dict[str, Any] = {"recall": pb.RECALL_FOUND, "of_task_id": "o", "output_json": "1"}
    response = pb.RecallStepResponse(**(said | answer))
    return Records(response, list(refusals))  # type: ignore[abstract]  # nothing else is called


async def test_a_record_is_asked_for_by_lease_step_and_input(keys: KeyRing) -> None:
    records = make_records()

    answer = await recalled(keys, records)

    assert answer == RecordedAnswer(found=Found.YES, of_task_id="o", output_json="1")
    assert records.asked == [
        pb.RecallStepRequest(task_id=str(TASK), lease_token=3, step_index=2, input_sha256="ab" * 32)
    ]


async def test_a_recorded_failure_comes_as_one(keys: KeyRing) -> None:
    answer = await recalled(keys, make_records(output_json=None, failure=failure_to_proto(BROKE)))

    assert (answer.output_json, answer.failure) == (None, BROKE)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        (pb.RECALL_NOT_FINISHED, Found.NOT_FINISHED),
        (pb.RECALL_OTHER_INPUT, Found.OTHER_INPUT),
        (pb.RECALL_UNSPECIFIED, Found.NOT_FINISHED),
    ],
)
async def test_what_is_missing_is_told_apart(
    keys: KeyRing, word: pb.Recall.ValueType, found: Found
) -> None:
    answer = await recalled(keys, make_records(recall=word, output_json=None))

    assert answer.found is found


async def test_a_scheduler_that_is_away_is_asked_again(keys: KeyRing) -> None:
    records = make_records("unavailable", "unavailable", "deadline_exceeded")

    answer = await recalled(keys, records)

    assert answer.found is Found.YES
    assert len(records.asked) == 4


@pytest.mark.parametrize("code", ["conflict", "internal", "permission_denied"])
async def test_a_record_that_cannot_be_read_fails_the_step(keys: KeyRing, code: str) -> None:
    records = make_records(code)

    with pytest.raises(StepFailed) as failed:
        await recalled(keys, records)

    assert (failed.value.code, failed.value.reason) == (
        FailureCode.TOOL_ERROR,
        "RECORDING_UNREADABLE",
    )
    assert len(records.asked) == 1
