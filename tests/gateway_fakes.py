"""Fake services behind the gateway: they answer what a test sets, and remember what was asked."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from libs.core.api_key import ALPHABET, make_key
from libs.core.errors import FieldError, PawlError
from libs.core.ids import new_id
from libs.core.tiers import TIERS
from libs.pb.pawl.auth.v1 import auth_pb2, auth_service_pb2, auth_service_pb2_grpc
from libs.pb.pawl.plan.v1 import plan_pb2
from libs.pb.pawl.scheduler.v1 import (
    scheduler_service_pb2,
    scheduler_service_pb2_grpc,
    task_pb2,
    trace_pb2,
)
from libs.rpc.context import CallContext, Caller, current, current_caller
from libs.rpc.convert import tier_limits_to_proto, to_timestamp
from libs.rpc.tokens import CallerTokens
from tests.gateway_account_fakes import AccountAnswers

START = datetime(2026, 2, 27, 11, 18, 1, 127894, tzinfo=UTC)
NO_KEY = UUID(int=0)
TENANT_ID = "0199d2a1-0000-7000-8000-3f0d5c1b8e27"
ENDED = {
    task_pb2.TASK_STATE_SUCCEEDED: "succeeded",
    task_pb2.TASK_STATE_FAILED: "failed",
    task_pb2.TASK_STATE_CANCELLED: "cancelled",
}


def at(seconds: float) -> Timestamp:
    """A moment so many seconds after the start of these tests' history."""
    return to_timestamp(START + timedelta(seconds=seconds))


def make_task(state: task_pb2.TaskState.ValueType, **members: Any) -> task_pb2.Task:
    """A task in this state, as the scheduler would send it; `members` replace its own."""
    made: dict[str, Any] = {
        "id": str(new_id()),
        "tenant_id": TENANT_ID,
        "state": state,
        "seq": 3,
        "input_json": '{"topic":"x"}',
        "plan": plan_pb2.Plan(
            steps=[plan_pb2.Step(step_index=1, tool="math", input_json='{"expression":"1+1"}')],
            limits=plan_pb2.Limits(max_steps=12, max_total_seconds=45, max_step_seconds=10.5),
        ),
        "planned_by": "caller",
        "created_at": at(0),
        "plan_hash": "a" * 64,
        "mode": "live",
    }
    if state >= task_pb2.TASK_STATE_RUNNING:
        made["execution_started_at"] = at(1)
    if state >= task_pb2.TASK_STATE_SUCCEEDED:
        made |= {"finished_at": at(1.5), "task_hash": "b" * 64}
    if state == task_pb2.TASK_STATE_SUCCEEDED:
        made["result_json"] = '{"result":2}'
    return task_pb2.Task(**(made | members))


def make_event(
    seq: int,
    kind: str,
    before: task_pb2.TaskState.ValueType,
    after: task_pb2.TaskState.ValueType,
    *,
    data: str = "{}",
) -> task_pb2.TaskEvent:
    """One event of a task's history, at tenths of seconds."""
    return task_pb2.TaskEvent(
        seq=seq, type=kind, from_state=before, to_state=after, at=at(seq / 10), data_json=data
    )


@dataclass
class FakeAuth(AccountAnswers, auth_service_pb2_grpc.AuthServiceServicer):
    """Knows the keys that tests make."""

    tokens: CallerTokens
    callers: dict[str, Caller] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    refusal: PawlError | None = None
    usage: auth_service_pb2.GetUsageResponse = field(
        default_factory=auth_service_pb2.GetUsageResponse
    )
    days: list[auth_pb2.DayUsage] = field(default_factory=list)
    usage_refusal: PawlError | None = None
    granted: list[auth_pb2.Permits] = field(default_factory=list)
    returned: list[auth_service_pb2.TenantPermits] = field(default_factory=list)
    token_lives: float = 3600.0

    def forget(self) -> None:
        """Begin anew, but for the keys."""
        self.asked, self.requests, self.refusal = [], [], None
        self.usage, self.days = auth_service_pb2.GetUsageResponse(), []
        self.usage_refusal = None
        self.granted, self.returned, self.token_lives = [], [], 3600.0

    def new_key(
        self,
        *,
        tier: str = "enterprise",
        tenant_of: str = "",
        scopes: tuple[str, ...] = ("tasks:read", "tasks:write"),
    ) -> str:
        """A living key of a new tenant, or of the tenant that another key is of."""
        chars = "".join(secrets.choice(ALPHABET) for _ in range(32))
        key = make_key(prefix="pawl", mode="live", random_chars=chars).secret
        self.callers[key] = Caller(
            key_id=new_id(),
            tenant_id=self.callers[tenant_of].tenant_id if tenant_of else new_id(),
            tier=tier,
            scopes=frozenset(scopes),
            mode="live",
            limits=TIERS[tier],
            expires_at=time.time() + 3600,
        )
        return key

    async def Authenticate(
        self, request: auth_service_pb2.AuthenticateRequest, _context: object
    ) -> auth_service_pb2.AuthenticateResponse:
        self.asked.append(request.api_key)
        await asyncio.sleep(0)  # other requests may arrive meanwhile
        if self.refusal is not None:
            raise self.refusal
        caller = self.callers.get(request.api_key)
        if caller is None:
            raise PawlError("unauthenticated", "the API key is not valid")
        ends = min(caller.expires_at, time.time() + self.token_lives)
        token, expires_at = self.tokens.issue(replace(caller, expires_at=ends))
        wanted = auth_pb2.Permits(granted=request.permits_wanted or 1)
        return auth_service_pb2.AuthenticateResponse(
            caller_token=token,
            expires_at=to_timestamp(datetime.fromtimestamp(expires_at, UTC)),
            token_seconds=expires_at - time.time(),
            tenant_id=str(caller.tenant_id),
            tier=caller.tier,
            limits=tier_limits_to_proto(caller.limits),
            mode=caller.mode,
            scopes=sorted(caller.scopes),
            permits=self.granted.pop(0) if self.granted else wanted,
        )

    async def ReturnPermits(
        self, request: auth_service_pb2.ReturnPermitsRequest, _context: object
    ) -> auth_service_pb2.ReturnPermitsResponse:
        self.returned += request.permits
        return auth_service_pb2.ReturnPermitsResponse()

    async def CreateTenant(
        self, request: auth_service_pb2.CreateTenantRequest, _context: object
    ) -> auth_service_pb2.CreateTenantResponse:
        self.requests.append(request)
        if request.name == "taken":
            raise PawlError("already_exists", "there is a tenant called taken")
        tenant = auth_pb2.Tenant(
            id=str(new_id()), name=request.name, tier=request.tier, created_at=at(0)
        )
        return auth_service_pb2.CreateTenantResponse(tenant=tenant)

    async def ListTenants(
        self, request: auth_service_pb2.ListTenantsRequest, _context: object
    ) -> auth_service_pb2.ListTenantsResponse:
        self.requests.append(request)
        if request.page_token == "foreign":
            detail = "it is not the token of a page of this list"
            error = FieldError(field="page_token", code="invalid_cursor", detail=detail)
            raise PawlError("invalid_cursor", f"page_token: {detail}", errors=(error,))
        tenant = auth_pb2.Tenant(id=str(new_id()), name="a", tier="pro", created_at=at(0))
        return auth_service_pb2.ListTenantsResponse(tenants=[tenant], next_page_token="more")

    async def CreateKey(
        self, request: auth_service_pb2.CreateKeyRequest, _context: object
    ) -> auth_service_pb2.CreateKeyResponse:
        self.requests.append(request)
        return auth_service_pb2.CreateKeyResponse(key=_api_key(), secret="pawl_live_all")

    async def ListKeys(
        self, request: auth_service_pb2.ListKeysRequest, _context: object
    ) -> auth_service_pb2.ListKeysResponse:
        self.requests.append(request)
        return auth_service_pb2.ListKeysResponse(keys=[_api_key()])

    async def RevokeKey(
        self, request: auth_service_pb2.RevokeKeyRequest, _context: object
    ) -> auth_service_pb2.RevokeKeyResponse:
        self.requests.append(request)
        if request.key_id == str(NO_KEY):
            raise PawlError("not_found", f"there is no key {request.key_id}")
        key = _api_key()
        key.revoked_at.CopyFrom(at(9))
        return auth_service_pb2.RevokeKeyResponse(key=key)

    async def GetUsage(
        self, request: auth_service_pb2.GetUsageRequest, _context: object
    ) -> auth_service_pb2.GetUsageResponse:
        self.requests.append(request)
        if self.usage_refusal is not None:
            raise self.usage_refusal
        return self.usage

    async def ListUsage(
        self, request: auth_service_pb2.ListUsageRequest, _context: object
    ) -> auth_service_pb2.ListUsageResponse:
        self.requests.append(request)
        if self.usage_refusal is not None:
            raise self.usage_refusal
        return auth_service_pb2.ListUsageResponse(days=self.days)


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class FakeScheduler(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    """Answers every submission with `task`; knows the tasks in `tasks` for every caller."""

    task: task_pb2.Task = field(default_factory=lambda: make_task(task_pb2.TASK_STATE_QUEUED))
    tasks: dict[str, task_pb2.Task] = field(default_factory=dict)
    pages: list[trace_pb2.TracePage] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    contexts: list[CallContext] = field(default_factory=list)
    refusal: Exception | None = None
    events: asyncio.Queue[list[task_pb2.TaskEvent] | None] = field(default_factory=asyncio.Queue)
    watching: int = 0
    position: int = 0
    hurry_seconds: float = 0.0
    """How much the clock by which it judges tokens is fast."""
    kept: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=_set_event)

    def forget(self) -> None:
        """Begin anew; streams that are still open end."""
        self.events.put_nowait(None)
        fresh = FakeScheduler(watching=self.watching)
        self.__dict__.update(fresh.__dict__)

    def keep(self, task: task_pb2.Task) -> str:
        """Let GetTask find `task`; returns its id."""
        self.tasks[task.id] = task
        self.kept.set()
        return task.id

    async def SubmitTask(
        self, request: scheduler_service_pb2.SubmitTaskRequest, _context: object
    ) -> scheduler_service_pb2.SubmitTaskResponse:
        self._note(request)
        await self.open.wait()
        replayed = request.idempotency_key == "seen"
        return scheduler_service_pb2.SubmitTaskResponse(task=self.task, replayed=replayed)

    async def SubmitTasks(
        self, request: scheduler_service_pb2.SubmitTasksRequest, _context: object
    ) -> scheduler_service_pb2.SubmitTasksResponse:
        self._note(request)
        return scheduler_service_pb2.SubmitTasksResponse(
            tasks=[self.task] * len(request.tasks), replayed=request.idempotency_key == "seen"
        )

    async def ListTasks(
        self, request: scheduler_service_pb2.ListTasksRequest, _context: object
    ) -> scheduler_service_pb2.ListTasksResponse:
        self._note(request)
        token = "" if request.page_token else "more"
        return scheduler_service_pb2.ListTasksResponse(
            tasks=self.tasks.values(), next_page_token=token
        )

    async def CountTasks(
        self, request: scheduler_service_pb2.CountTasksRequest, _context: object
    ) -> scheduler_service_pb2.CountTasksResponse:
        self._note(request)
        return scheduler_service_pb2.CountTasksResponse(waiting=3, running=2)

    async def ReplayTask(
        self, request: scheduler_service_pb2.ReplayTaskRequest, _context: object
    ) -> scheduler_service_pb2.ReplayTaskResponse:
        self._note(request)
        original = self._known(request.task_id)
        if original.state not in ENDED:
            raise PawlError("conflict", "only a task that has ended can be replayed")
        await self.open.wait()
        task = make_task(task_pb2.TASK_STATE_QUEUED, replay_of_task_id=original.id)
        replayed = request.idempotency_key == "seen"
        return scheduler_service_pb2.ReplayTaskResponse(task=task, replayed=replayed)

    async def GetTask(
        self, request: scheduler_service_pb2.GetTaskRequest, _context: object
    ) -> scheduler_service_pb2.GetTaskResponse:
        self._note(request)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(request.wait_seconds, self._token_lives())):
                while self._known(request.task_id).state not in ENDED:
                    self.kept.clear()
                    await self.kept.wait()
        return scheduler_service_pb2.GetTaskResponse(task=self._known(request.task_id))

    async def CancelTask(
        self, request: scheduler_service_pb2.CancelTaskRequest, _context: object
    ) -> scheduler_service_pb2.CancelTaskResponse:
        self._note(request)
        task = self._known(request.task_id)
        if task.state in ENDED:
            raise PawlError("conflict", f"the task has ended already: {ENDED[task.state]}")
        cancelled = make_task(
            task_pb2.TASK_STATE_CANCELLED, id=task.id, cancel_requested_at=at(1.25)
        )
        return scheduler_service_pb2.CancelTaskResponse(task=cancelled)

    async def GetTrace(
        self, request: scheduler_service_pb2.GetTraceRequest, _context: object
    ) -> AsyncIterator[scheduler_service_pb2.GetTraceResponse]:
        self._note(request)
        self._known(request.task_id)
        for page in self.pages:
            yield scheduler_service_pb2.GetTraceResponse(page=page)

    async def WatchEvents(
        self, request: scheduler_service_pb2.WatchEventsRequest, _context: object
    ) -> AsyncIterator[scheduler_service_pb2.WatchEventsResponse]:
        self._note(request)
        self.watching += 1
        try:
            if not request.HasField("task_id"):
                yield scheduler_service_pb2.WatchEventsResponse(position=self.position)
            while (events := await self._next_events()) is not None:
                yield scheduler_service_pb2.WatchEventsResponse(events=events)
            if not request.HasField("task_id"):
                yield scheduler_service_pb2.WatchEventsResponse(position=self.position)
        finally:
            self.watching -= 1

    async def _next_events(self) -> list[task_pb2.TaskEvent] | None:
        """None: a test has ended the streams, or the token has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._token_lives()):
                return await self.events.get()
        return None

    async def RepublishEvents(
        self, request: scheduler_service_pb2.RepublishEventsRequest, _context: object
    ) -> scheduler_service_pb2.RepublishEventsResponse:
        self._note(request)
        return scheduler_service_pb2.RepublishEventsResponse(events=9, letters=4, unknown_letters=1)

    def _token_lives(self) -> float:
        return max(0.0, current_caller().expires_at - time.time() - self.hurry_seconds)

    def _note(self, request: Any) -> None:
        self.requests.append(request)
        self.callers.append(current_caller())
        self.contexts.append(current())
        if self.refusal is not None:
            raise self.refusal

    def _known(self, task_id: str) -> task_pb2.Task:
        if task_id not in self.tasks:
            raise PawlError("not_found", f"there is no task {task_id}")
        return self.tasks[task_id]


def _api_key() -> auth_pb2.ApiKey:
    return auth_pb2.ApiKey(
        id=str(new_id()),
        tenant_id=str(new_id()),
        name="ci",
        display="pawl_live_…abcd",
        mode="live",
        scopes=["tasks:read"],
        created_at=at(0),
    )
