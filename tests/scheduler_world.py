"""A scheduler process in this loop, with a planner and executors that do what a test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from libs.bus.settings import BusSettings
from libs.core.canonical import Json, canonical_text, read_canonical
from libs.core.errors import Failure, FailureCode, PawlError
from libs.core.hashing import plan_hash, step_hash
from libs.core.plan import Limits, Plan, Step
from libs.core.tiers import TIERS
from libs.core.tool_spec import ToolRef
from libs.pb.pawl.planner.v1 import planner_service_pb2 as planner_pb
from libs.pb.pawl.planner.v1 import planner_service_pb2_grpc as planner_grpc
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2 as service_pb
from libs.pb.pawl.scheduler.v1 import scheduler_service_pb2_grpc as service_grpc
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.pb.pawl.scheduler.v1 import work_service_pb2 as work_pb
from libs.pb.pawl.scheduler.v1 import work_service_pb2_grpc as work_grpc
from libs.rpc.client import NO_DEADLINE, RpcChannel, StreamCall, caller_token
from libs.rpc.context import Caller, current
from libs.rpc.convert import failure_to_proto, limits_from_proto, plan_to_proto, tool_ref_to_proto
from libs.rpc.server import RpcServer
from libs.rpc.tokens import (
    CallerTokens,
    KeyRing,
    ServiceTokens,
    TokenVerifier,
    private_key_file,
    public_keys_file,
)
from services.scheduler.__main__ import Process, open_outside, serve, wire
from services.scheduler.config import Settings
from tests.asyncapi import check_all
from tests.published import rows_of_the_bus
from tests.servers import Database
from tests.waiting import eventually

TENANT = UUID("01936b2e-0000-7000-8000-000000000001")
OTHER_TENANT = UUID("01936b2e-0000-7000-8000-000000000002")
MATH = ToolRef("math", "1.0", "a" * 64)
WAIT = ToolRef("wait", "1.0", "b" * 64)
FINGERPRINT = "f" * 64
HEARTBEAT_SECONDS = 2.0
PLANNER = "pawl.planner.v1.PlannerService"

Request = planner_pb.BuildPlanRequest
State = task_pb2.TaskState
Stream = StreamCall[work_pb.WorkRequest, work_pb.WorkResponse]


def make_plan(steps: int = 3, *, tool: ToolRef = MATH, limits: Limits | None = None) -> Plan:
    """A plan of so many steps of one tool; step k computes k."""
    return Plan(
        steps=tuple(
            Step(step_index=k, tool=tool.name, input={"expression": f"{k}*1"})
            for k in range(1, steps + 1)
        ),
        limits=limits or Limits(max_steps=1000, max_total_seconds=45, max_queue_seconds=3600),
    )


class FakePlanner(planner_grpc.PlannerServiceServicer):
    """Plans {"steps": n} as n steps, {"tool": "wait"} with that tool, {"total": s} within so many
    seconds; {"unplannable": true} not at all; refuses {"refuse": code}.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.tenants: list[UUID | None] = []
        self.admissions: list[planner_pb.AdmitPlanRequest] = []
        self.recorded_tools: tuple[str, ...] = ()
        self.refusal: PawlError | None = None
        self.gate: asyncio.Event | None = None

    async def BuildPlan(self, request: Request, context: object) -> planner_pb.BuildPlanResponse:
        del context
        self.requests.append(request)
        principal = current().principal
        self.tenants.append(principal.tenant_id if principal else None)
        if self.gate is not None:
            await self.gate.wait()
        said: Any = read_canonical(request.task_input_json)
        if "refuse" in said:
            raise PawlError(said["refuse"], "the planner refuses")
        if said.get("unplannable"):
            failure = Failure(
                code=FailureCode.PLANNER_UNAVAILABLE, message="nobody can plan this; give a plan"
            )
            return planner_pb.BuildPlanResponse(unplannable=failure_to_proto(failure))
        tool = {"math": MATH, "wait": WAIT}[said.get("tool", "math")]
        plan = make_plan(said.get("steps", 3), tool=tool)
        tier = limits_from_proto(request.tier)
        limits = replace(plan.limits, max_queue_seconds=tier.max_queue_seconds)
        if "total" in said:
            limits = replace(limits, max_total_seconds=said["total"])
        plan = replace(plan, limits=limits)
        frozen = planner_pb.FrozenPlan(
            plan=plan_to_proto(plan),
            tool_set=[tool_ref_to_proto(tool)],
            plan_hash=plan_hash(plan, tools=[tool], task_input=said),
            planned_by="caller" if request.HasField("plan_json") else "offline",
            note="planned by a fake",
        )
        return planner_pb.BuildPlanResponse(planned=frozen)

    async def AdmitPlan(
        self, request: planner_pb.AdmitPlanRequest, context: object
    ) -> planner_pb.AdmitPlanResponse:
        del context
        self.admissions.append(request)
        if self.refusal is not None:
            raise self.refusal
        recorded = self.recorded_tools if request.recorded else ()
        return planner_pb.AdmitPlanResponse(recorded_tools=recorded)


def closed_step(
    assignment: work_pb.Assignment,
    step_index: int,
    *,
    previous: str,
    failure: Failure | None = None,
) -> work_pb.StepFinished:
    """How the fake executor closes a step; outputs {"result": k}."""
    step = assignment.plan.steps[step_index - 1]
    tool = next(ref for ref in assignment.tool_set if ref.name == step.tool)
    resolved: Json = read_canonical(step.input_json)
    output: Json = None if failure else {"result": step_index}
    finished = work_pb.StepFinished(
        step_index=step_index,
        resolved_input_json=canonical_text(resolved),
        step_hash=step_hash(
            previous,
            step_index=step_index,
            tool=f"{tool.name}@{tool.version}",
            resolved_input=resolved,
            output=output,
            failure_code=failure.code.value if failure else None,
        ),
    )
    if failure is not None:
        finished.failure.CopyFrom(failure_to_proto(failure))
    else:
        finished.output_json = canonical_text(output)
    return finished


Decide = Callable[[work_pb.Assignment, int], Failure | None]


@dataclass
class FakeExecutor:
    """Speaks the Work stream; by itself it runs every assignment, unless `is_manual`."""

    stream: Stream
    boot_id: UUID
    fail: Decide = lambda _assignment, _step: None
    is_manual: bool = False
    heartbeats: bool = True
    hello: work_pb.HelloReply = field(default_factory=work_pb.HelloReply)
    assignments: list[work_pb.Assignment] = field(default_factory=list)
    acks: dict[int, int] = field(default_factory=dict)
    stops: list[work_pb.Stop] = field(default_factory=list)
    obeys: bool = True
    """Whether a step that is to be cancelled dies, and its end is reported."""
    ran: list[tuple[str, int]] = field(default_factory=list)
    drained: bool = False
    error: PawlError | None = None
    _next_id: int = 0
    _unsent: list[work_pb.StepReport] = field(default_factory=list)
    _unsent_flag: asyncio.Event = field(default_factory=asyncio.Event)
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def report(self, report: work_pb.StepReport) -> int:
        """Send a report (with the next id when it has none) and return its ack's status."""
        if not report.report_id:
            self._next_id += 1
            report.report_id = self._next_id
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[report.report_id] = waiting
        self._unsent.append(report)
        self._unsent_flag.set()
        return await waiting

    async def heartbeat(self) -> None:
        """Renew the lease."""
        await self._send(work_pb.WorkRequest(heartbeat=work_pb.Heartbeat()))

    async def leave(self) -> None:
        """Say that this boot is over."""
        await self._send(work_pb.WorkRequest(leaving=True))

    async def run_task(self, assignment: work_pb.Assignment) -> None:
        """The whole life of a task here: start, and per step one report that closes it."""
        steps = len(assignment.plan.steps)
        closed = len(assignment.closed_output_json)
        previous = assignment.last_step_hash or assignment.plan_hash
        begins = self._of(assignment)
        begins.started_step_index = closed + 1
        status = await self.report(begins)
        for step in range(closed + 1, steps + 1):
            if status not in {work_pb.ACK_STATUS_OK, work_pb.ACK_STATUS_SEEN}:
                return
            self.ran.append((assignment.task_id, step))
            failure = self.fail(assignment, step)
            report = self._of(assignment)
            report.finished.CopyFrom(
                closed_step(assignment, step, previous=previous, failure=failure)
            )
            previous = report.finished.step_hash
            if failure is not None:
                report.end.state = State.TASK_STATE_FAILED
                report.end.failure.CopyFrom(failure_to_proto(failure))
            elif step == steps:
                report.end.state = State.TASK_STATE_SUCCEEDED
            else:
                report.started_step_index = step + 1
            status = await self.report(report)
            if failure is not None:
                return

    async def read(self) -> None:
        """Take in what the scheduler says until the stream ends."""
        writing = asyncio.create_task(self._write())
        beating = asyncio.create_task(self._beat())
        try:
            while (message := await self.stream.read()) is not None:
                self._take(message)
        except PawlError as error:
            self.error = error
        finally:
            writing.cancel()
            beating.cancel()
            await asyncio.gather(writing, beating, return_exceptions=True)
            for waiting in self._waiting.values():
                waiting.cancel()

    def _take(self, message: work_pb.WorkResponse) -> None:
        self.drained |= message.drain
        for ack in message.acks:
            self.acks[ack.report_id] = ack.status
            waiting = self._waiting.pop(ack.report_id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(ack.status)
        for stop in message.stops:
            self.stops.append(stop)
            if stop.cancel and self.obeys:
                self._spawn(self._cancelled(stop))
        for assignment in message.assignments:
            self.assignments.append(assignment)
            if not self.is_manual:
                self._spawn(self.run_task(assignment))

    async def _cancelled(self, stop: work_pb.Stop) -> None:
        report = work_pb.StepReport(task_id=stop.task_id, lease_token=stop.lease_token)
        report.end.state = State.TASK_STATE_CANCELLED
        await self.report(report)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beat(self) -> None:
        while self.heartbeats:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self.heartbeat()

    async def _write(self) -> None:
        while True:
            await self._unsent_flag.wait()
            self._unsent_flag.clear()
            reports, self._unsent = self._unsent, []
            await self._send(work_pb.WorkRequest(reports=reports))

    async def _send(self, message: work_pb.WorkRequest) -> None:
        # gRPC takes one message of a stream at a time.
        async with self._sending:
            await self.stream.write(message)

    @staticmethod
    def _of(assignment: work_pb.Assignment) -> work_pb.StepReport:
        return work_pb.StepReport(task_id=assignment.task_id, lease_token=assignment.lease_token)

    async def stop(self) -> None:
        """Hang up."""
        for task in self._tasks:
            task.cancel()
        self.stream.cancel()


@dataclass
class SchedulerWorld:
    """One scheduler over gRPC, and what a test looks through."""

    database: Database
    keys: KeyRing
    planner: FakePlanner
    process: Process
    channel: RpcChannel
    stop: asyncio.Event
    serving: asyncio.Task[None]

    @property
    def tasks(self) -> Any:
        """The stub of SchedulerService; its calls need `as_caller`."""
        return self.channel.stub(service_grpc.SchedulerServiceStub)

    def token(self, tenant_id: UUID = TENANT, **changes: Any) -> str:
        """A caller token of a tenant."""
        return issue(self.keys, tenant_id, **changes)

    async def submit(
        self,
        task_input: Json = None,
        *,
        tenant_id: UUID = TENANT,
        mode: str = "live",
        token: Mapping[str, Any] | None = None,
        **request: Any,
    ) -> service_pb.SubmitTaskResponse:
        """Submit as a caller of the tenant."""
        text = canonical_text(task_input if task_input is not None else {"steps": 3})
        wanted = service_pb.SubmitTaskRequest(**{"task_input_json": text} | request)
        with caller_token(self.token(tenant_id, mode=mode, **token or {})):
            answer: service_pb.SubmitTaskResponse = await self.tasks.SubmitTask(wanted, timeout=30)
        return answer

    async def replay(
        self, task_id: str, *, tenant_id: UUID = TENANT, **request: Any
    ) -> service_pb.ReplayTaskResponse:
        """Replay a task as a caller of the tenant."""
        wanted = service_pb.ReplayTaskRequest(task_id=task_id, **request)
        with caller_token(self.token(tenant_id)):
            answer: service_pb.ReplayTaskResponse = await self.tasks.ReplayTask(wanted, timeout=30)
        return answer

    async def get(
        self, task_id: str, *, tenant_id: UUID = TENANT, wait_seconds: float = 0
    ) -> task_pb2.Task:
        """Read a task as a caller of the tenant."""
        wanted = service_pb.GetTaskRequest(task_id=task_id, wait_seconds=wait_seconds)
        with caller_token(self.token(tenant_id)):
            answer: service_pb.GetTaskResponse = await self.tasks.GetTask(wanted, timeout=30)
        return answer.task

    async def cancel(self, task_id: str, *, tenant_id: UUID = TENANT) -> task_pb2.Task:
        """Cancel a task as a caller of the tenant."""
        wanted = service_pb.CancelTaskRequest(task_id=task_id)
        with caller_token(self.token(tenant_id)):
            answer: service_pb.CancelTaskResponse = await self.tasks.CancelTask(wanted, timeout=30)
        return answer.task

    async def trace(self, task_id: str, *, tenant_id: UUID = TENANT) -> list[Any]:
        """The pages of a trace."""
        with caller_token(self.token(tenant_id)):
            answers = self.tasks.GetTrace(service_pb.GetTraceRequest(task_id=task_id))
            return [answer.page async for answer in answers]

    async def ask(self, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Rows of a statement run as the owner."""
        return await ask(self.database.owner_dsn, sql, parameters)

    @asynccontextmanager
    async def executor(
        self,
        *,
        name: str = "ex-1",
        boot_id: UUID | None = None,
        slots: int = 4,
        tools: Sequence[ToolRef] = (MATH,),
        running: Sequence[tuple[str, int]] = (),
        is_manual: bool = False,
        heartbeats: bool = True,
        fail: Decide = lambda _assignment, _step: None,
    ) -> AsyncIterator[FakeExecutor]:
        """A connected executor."""
        boot = boot_id or uuid4()
        tokens = ServiceTokens("executor", self.keys.private["executor"])
        channel = RpcChannel(self.channel.target, audience="scheduler", tokens=tokens)
        stub: Any = channel.stub(work_grpc.WorkServiceStub)
        stream: Stream = stub.Work(timeout=NO_DEADLINE)
        hello = work_pb.Hello(
            executor_id=name,
            boot_id=str(boot),
            slots=slots,
            tools=[tool_ref_to_proto(tool) for tool in tools],
            running=[work_pb.RunningTask(task_id=t, lease_token=n) for t, n in running],
        )
        reading = None
        try:
            await stream.write(work_pb.WorkRequest(hello=hello))
            reply = await stream.read()
            assert reply is not None
            executor = FakeExecutor(
                stream=stream,
                boot_id=boot,
                hello=reply.hello,
                is_manual=is_manual,
                heartbeats=heartbeats,
                fail=fail,
            )
            reading = asyncio.create_task(executor.read())
            yield executor
            await executor.stop()
        finally:
            stream.cancel()
            if reading is not None:
                await asyncio.gather(reading, return_exceptions=True)
            await channel.close()


def issue(keys: KeyRing, tenant_id: UUID = TENANT, **changes: Any) -> str:
    """A caller token, by default of an enterprise tenant with both task scopes."""
    caller = Caller(
        key_id=tenant_id,
        tenant_id=tenant_id,
        tier="enterprise",
        scopes=frozenset({"tasks:read", "tasks:write"}),
        mode="live",
        limits=TIERS["enterprise"],
        expires_at=time.time() + 60,
    )
    return CallerTokens(keys.private["auth"]).issue(replace(caller, **changes))[0]


async def ask(dsn: str, sql: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
    """Rows of one statement on a connection of its own."""
    async with await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, row_factory=dict_row
    ) as connection:
        cursor = await connection.execute(sql.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def scheduler_world(
    database: Database, keys: KeyRing, secrets_dir: Path, *, lease_seconds: float = 10.0
) -> AsyncIterator[SchedulerWorld]:
    """A scheduler that serves during the block; what it published is as docs/asyncapi.yaml says."""
    keys.write(secrets_dir)
    async with AsyncExitStack() as stack:
        planner = FakePlanner()  # type: ignore[abstract]  # the scheduler calls nothing else
        planner_server = RpcServer(
            service="planner",
            address="127.0.0.1:0",
            verifier=TokenVerifier(keys.public, audience="planner"),
            access={
                f"/{PLANNER}/{name}": frozenset({"scheduler"})
                for name in (
                    "BuildPlan",
                    "AdmitPlan",
                    "RegisterTools",
                    "WithdrawTools",
                    "ListTools",
                )
            },
        )
        planner_server.add(planner_grpc.add_PlannerServiceServicer_to_server, planner, PLANNER)
        port = await planner_server.start()
        stack.push_async_callback(planner_server.stop)
        settings = Settings(
            listen="127.0.0.1:0",
            metrics_listen="127.0.0.1:0",
            database_url=database.dsn("scheduler"),
            planner_target=f"127.0.0.1:{port}",
            service_key_file=private_key_file(secrets_dir, "scheduler"),
            public_keys_file=public_keys_file(secrets_dir),
            log_level="info",
            bus=BusSettings(),
            tls=None,
            lease_seconds=lease_seconds,
        )
        outside = await stack.enter_async_context(open_outside(settings))
        process = wire(settings, outside)
        stop = asyncio.Event()
        serving = asyncio.create_task(serve(process, stop))
        try:
            await eventually(lambda: process.server.port or serving.done(), timeout=10)
            if serving.done():
                serving.result()
            channel = RpcChannel(f"127.0.0.1:{process.server.port}", audience="scheduler")
            stack.push_async_callback(channel.close)
            yield SchedulerWorld(
                database=database,
                keys=keys,
                planner=planner,
                process=process,
                channel=channel,
                stop=stop,
                serving=serving,
            )
        finally:
            stop.set()
            await serving
        async with await psycopg.AsyncConnection.connect(database.owner_dsn) as owner:
            check_all(await rows_of_the_bus(owner))
