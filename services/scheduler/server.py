"""The gRPC face of tasks: convert, call the use case, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2_grpc as service_grpc
from libs.rpc.context import current_caller
from services.scheduler import convert
from services.scheduler.batching import BatchService
from services.scheduler.cancelling import CancelService
from services.scheduler.listing import ListService
from services.scheduler.replaying import ReplayService
from services.scheduler.republishing import Republishing
from services.scheduler.service import TaskService
from services.scheduler.watching import WatchService


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """What the face of tasks stands on."""

    tasks: TaskService
    batching: BatchService
    listing: ListService
    replaying: ReplayService
    cancelling: CancelService
    watching: WatchService
    republishing: Republishing


class SchedulerServicer(service_grpc.SchedulerServiceServicer):
    """pawl.scheduler.v1.SchedulerService."""

    def __init__(self, use_cases: UseCases) -> None:
        self._tasks = use_cases.tasks
        self._batching = use_cases.batching
        self._listing = use_cases.listing
        self._replaying = use_cases.replaying
        self._cancelling = use_cases.cancelling
        self._watching = use_cases.watching
        self._republishing = use_cases.republishing

    async def SubmitTask(  # noqa: D102 - named and described by the proto
        self, request: service_pb.SubmitTaskRequest, _context: Any
    ) -> service_pb.SubmitTaskResponse:
        submitted = await self._tasks.submit(current_caller(), convert.submission(request))
        return service_pb.SubmitTaskResponse(
            task=convert.task_to_proto(submitted.task), replayed=submitted.replayed
        )

    async def ReplayTask(  # noqa: D102 - named and described by the proto
        self, request: service_pb.ReplayTaskRequest, _context: Any
    ) -> service_pb.ReplayTaskResponse:
        submitted = await self._replaying.replay(current_caller(), convert.replay_request(request))
        return service_pb.ReplayTaskResponse(
            task=convert.task_to_proto(submitted.task), replayed=submitted.replayed
        )

    async def SubmitTasks(  # noqa: D102 - named and described by the proto
        self, request: service_pb.SubmitTasksRequest, _context: Any
    ) -> service_pb.SubmitTasksResponse:
        submitted = await self._batching.submit(current_caller(), convert.batch(request))
        return service_pb.SubmitTasksResponse(
            tasks=[convert.task_of_batch_to_proto(task) for task in submitted.tasks],
            replayed=submitted.replayed,
        )

    async def ListTasks(  # noqa: D102 - named and described by the proto
        self, request: service_pb.ListTasksRequest, _context: Any
    ) -> service_pb.ListTasksResponse:
        wanted = convert.list_request(request)
        tasks, next_page_token = await self._listing.page(current_caller(), wanted)
        return service_pb.ListTasksResponse(
            tasks=[convert.task_to_proto(task) for task in tasks], next_page_token=next_page_token
        )

    async def CountTasks(  # noqa: D102 - named and described by the proto
        self, _request: service_pb.CountTasksRequest, _context: Any
    ) -> service_pb.CountTasksResponse:
        counts = await self._listing.count(current_caller())
        return service_pb.CountTasksResponse(waiting=counts.waiting, running=counts.running)

    async def GetTask(  # noqa: D102 - named and described by the proto
        self, request: service_pb.GetTaskRequest, _context: Any
    ) -> service_pb.GetTaskResponse:
        task = await self._tasks.get(
            current_caller(),
            convert.task_id(request.task_id),
            wait_seconds=request.wait_seconds,
        )
        waiting = await self._tasks.waiting(task)
        return service_pb.GetTaskResponse(task=convert.task_to_proto(task, waiting=waiting))

    async def CancelTask(  # noqa: D102 - named and described by the proto
        self, request: service_pb.CancelTaskRequest, _context: Any
    ) -> service_pb.CancelTaskResponse:
        task = await self._cancelling.cancel(current_caller(), convert.task_id(request.task_id))
        return service_pb.CancelTaskResponse(task=convert.task_to_proto(task))

    async def GetTrace(  # noqa: D102 - named and described by the proto
        self, request: service_pb.GetTraceRequest, _context: Any
    ) -> AsyncIterator[service_pb.GetTraceResponse]:
        task_id = convert.task_id(request.task_id)
        async for part in self._tasks.trace(current_caller(), task_id):
            page = convert.page_to_proto(part, of_task=task_id)
            yield service_pb.GetTraceResponse(page=page)

    async def WatchEvents(  # noqa: D102 - named and described by the proto
        self, request: service_pb.WatchEventsRequest, _context: Any
    ) -> AsyncIterator[service_pb.WatchEventsResponse]:
        caller = current_caller()
        task_id, after_seq, after_position = convert.watched(request)
        if task_id is None:
            answers = self._watching.tenant_events(caller, after_position=after_position)
        else:
            answers = self._watching.task_events(caller, task_id, after_seq=after_seq)
        async for watched in answers:
            yield service_pb.WatchEventsResponse(
                events=[convert.event_to_proto(event) for event in watched.events],
                position=watched.position,
            )

    async def RepublishEvents(  # noqa: D102 - named and described by the proto
        self, request: service_pb.RepublishEventsRequest, _context: Any
    ) -> service_pb.RepublishEventsResponse:
        task_id = convert.republished(request)
        if task_id is None:
            done = await self._republishing.dead_letters(current_caller())
        else:
            done = await self._republishing.task(current_caller(), task_id)
        return service_pb.RepublishEventsResponse(
            events=done.events, letters=done.letters, unknown_letters=done.unknown_letters
        )
