"""A whole Pawl whose code steps run in containers of an engine that a test may hurt."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import docker

from libs.cli.client import Client
from services.executor.sandbox.docker_config import BOOT_LABEL, EXECUTOR_LABEL
from services.executor.sandbox.docker_image import image_name
from services.executor.sandbox.image.context import packaged_context
from tests.faults.load import ClientLog, FaultClient
from tests.faults.records import Dump, Operation, StepRow, TaskRow
from tests.faults.stack import FaultStack, fault_stack
from tests.sandbox.docker_world import docker_world, engine_or_skip
from tests.sandbox.own_engine import OwnEngine, own_engine
from tests.waiting import eventually

LOOP = "while True: pass"
ADD = "result = 1 + input_data"
OFFERED = ["docker"]
READY = "pawl_executor_sandbox_ready"
IMAGE = image_name(packaged_context())

_DISK_BYTES = 500 * 2**20


def code_body(
    code: str,
    *,
    before_seconds: float = 0.0,
    step_seconds: float | None = None,
    total_seconds: float = 60.0,
) -> dict[str, Any]:
    """A body whose plan calls the ledger, runs code, and calls the ledger again."""
    limits = {} if step_seconds is None else {"limits": {"max_step_seconds": step_seconds}}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("ledger", {"seconds": before_seconds}),
        ("python_sandbox", {"code": code, "input_data": 1}),
        ("ledger", {}),
    ]
    steps = [
        {"step_index": index, "tool": tool, "input": value}
        for index, (tool, value) in enumerate(calls, start=1)
    ]
    return {"plan": {"steps": steps, **limits}, "timeout_seconds": total_seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A container of the sandbox: of which executor, of which start of it, how it is."""

    id: str
    executor_id: str
    boot_id: str
    state: str


@dataclass(kw_only=True)
class CodeWorld:
    """`refused_at_start` is what a plan with code was told while there was no engine yet."""

    engine: OwnEngine
    stack: FaultStack
    refused_at_start: Operation
    log: ClientLog = field(default_factory=ClientLog)

    @property
    def client(self) -> FaultClient:
        """Its operations go into `log`; the caller closes it."""
        return FaultClient(self.stack.server, self.log)

    def submit(self, body: Mapping[str, Any]) -> Operation:
        """Create a task."""
        client = self.client
        try:
            return client.create(body, f"code-{uuid4()}", retry_seconds=5)
        finally:
            client.close()

    def begin(self, body: Mapping[str, Any]) -> UUID:
        """Create a task that is accepted."""
        created = self.submit(body)
        assert created.task_id is not None, created
        return created.task_id

    async def run(self, body: Mapping[str, Any]) -> str:
        """The state in which a new task ends."""
        return str((await self.ended(self.begin(body)))["status"])

    async def ended(self, task_id: UUID, *, timeout: float = 30) -> dict[str, Any]:
        """The task, once it has ended."""

        def look() -> dict[str, Any] | None:
            task = Client(self.stack.server).get(f"/api/v1/tasks/{task_id}")
            return task if task["status"] in {"succeeded", "failed", "cancelled"} else None

        found = await eventually(look, timeout=timeout)
        assert found is not None
        return found

    def sandboxes(self) -> list[str]:
        """What /readyz says of who runs code."""
        found: list[str] = Client(self.stack.server).get("/readyz")["sandboxes"]
        return found

    async def offered(self, *, timeout: float = 30) -> None:
        """Wait until code steps are offered, by every executor."""
        await eventually(lambda: set(self.metric(READY).values()) == {1.0}, timeout=timeout)
        await eventually(lambda: self.sandboxes() == OFFERED, timeout=timeout)

    async def not_offered(self, *, timeout: float = 30) -> None:
        """Wait until they are not."""
        await eventually(lambda: self.sandboxes() == [], timeout=timeout)

    def boxes(self) -> list[Box]:
        """Every container of the engine, running or not."""
        with _client(self.engine) as client:
            return [
                Box(
                    id=each["Id"],
                    executor_id=each["Labels"][EXECUTOR_LABEL],
                    boot_id=each["Labels"][BOOT_LABEL],
                    state=each["State"],
                )
                for each in client.api.containers(all=True)
            ]

    async def busy(self) -> Box:
        """The one container in which code runs: the guest's process has a child there."""
        (box,) = await eventually(self._busy, timeout=10)
        return box

    def _busy(self) -> list[Box]:
        running = [box for box in self.boxes() if box.state == "running"]
        return [box for box in running if self._processes(box.id) > 1]

    def _processes(self, container: str) -> int:
        with _client(self.engine) as client:
            try:
                return len(client.api.top(container)["Processes"])
            except docker.errors.APIError:
                # It has just ended.
                return 0

    def kill(self, box: Box) -> None:
        """SIGKILL to the container's first process."""
        with _client(self.engine) as client:
            client.api.kill(box.id)

    def pause(self, box: Box) -> None:
        """Keep everything in the container from going on."""
        with _client(self.engine) as client:
            client.api.pause(box.id)

    def saved_image(self) -> bytes:
        """The image that code runs in, for `engine.load`."""
        with _client(self.engine) as client:
            return b"".join(client.images.get(IMAGE).save(named=IMAGE))

    def remove_image(self) -> None:
        """Remove it with every container that was made of it; nobody may start one meanwhile."""
        for box in self.boxes():
            with _client(self.engine) as client:
                client.api.remove_container(box.id, force=True)
        with _client(self.engine) as client:
            client.images.remove(IMAGE, force=True)

    def metric(self, name: str) -> dict[str, float]:
        """A metric of each executor."""
        found = {}
        for executor in self.stack.ready.services["executor"]:
            with urllib.request.urlopen(f"http://{executor.metrics_address}/metrics") as answer:
                lines = answer.read().decode().splitlines()
            (line,) = [one for one in lines if one.startswith(f"{name} ")]
            found[executor.instance] = float(line.split()[1])
        return found


@contextmanager
def _client(engine: OwnEngine) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=engine.address)
    try:
        yield client
    finally:
        client.close()


def _refused_at_start(stack: FaultStack) -> Operation:
    client = FaultClient(stack.server, ClientLog())
    try:
        return client.create(code_body(ADD), "at-start")
    finally:
        client.close()


def step_of(dump: Dump, task_id: UUID) -> tuple[TaskRow, StepRow]:
    """A task and the last of its steps that closed."""
    return dump.by_id[task_id], max(dump.steps_of[task_id], key=lambda step: step.step_index)


@asynccontextmanager
async def code_world(place: Path) -> AsyncIterator[CodeWorld]:
    """Pawl, started while its engine is dead; then the engine. Skips where none is to be had."""
    async with docker_world(engine_or_skip(), context=packaged_context()):
        pass
    # A short path: that of a socket has 108 characters.
    with tempfile.TemporaryDirectory(prefix="pawl-engine-") as short:
        engine_place = Path(short)
        with own_engine(
            engine_place, context=packaged_context(), tmpfs_bytes=_DISK_BYTES
        ) as engine:
            await asyncio.to_thread(engine.signal, signal.SIGKILL)
            environ = {
                "PAWL_SANDBOX": "docker",
                "PAWL_SANDBOX_GUESTS": "1",
                "DOCKER_HOST": engine.address,
            }
            async with fault_stack(place, environ=environ) as stack:
                world = CodeWorld(
                    engine=engine, stack=stack, refused_at_start=_refused_at_start(stack)
                )
                await asyncio.to_thread(engine.start)
                await world.offered()
                yield world
