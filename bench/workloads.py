"""What is asked of Pawl, over plain kept connections, and how long it takes."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bench.measure import Latency, latency_of

_EXECUTE = "/api/v1/tasks/execute"
_WAIT = "?wait=25"
_MOST_PROCESSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server to measure."""

    url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Tasks that succeeded per second, and how long each client waited for one."""

    clients: int
    processes: int
    seconds: float
    tasks: int
    per_second: float
    latency: Latency


class Connection:
    """One kept HTTP connection."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._http = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._headers = {
            "Authorization": f"Bearer {target.api_key}",
            "Content-Type": "application/json",
        }

    def execute(self, body: bytes, *, wait: bool) -> dict[str, Any]:
        """Submit a task; with `wait` the answer comes when it has ended."""
        path = _EXECUTE + (_WAIT if wait else "")
        self._http.request("POST", path, body=body, headers=self._headers)
        return self._answer()

    def ended(self, task_id: str) -> dict[str, Any]:
        """The task when it has ended, or after 25 s."""
        self._http.request("GET", f"/api/v1/tasks/{task_id}{_WAIT}", headers=self._headers)
        return self._answer()

    def trace(self, task_id: str) -> dict[str, Any]:
        """The trace of a task."""
        self._http.request("GET", f"/api/v1/tasks/{task_id}/trace", headers=self._headers)
        return self._answer()

    def get(self, path: str) -> dict[str, Any]:
        """Whatever a path answers."""
        self._http.request("GET", path, headers=self._headers)
        return self._answer()

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        """Whatever a path answers to a body."""
        self._http.request("POST", path, body=body, headers=self._headers)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        answer = self._http.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{answer.status}: {content[:500]!r}")
        value: dict[str, Any] = json.loads(content)
        return value


def math_plan(steps: int) -> bytes:
    """A body whose plan is a chain of `steps` additions, each using the result before it."""
    first: dict[str, Any] = {"step_index": 1, "tool": "math", "input": {"expression": "1+1"}}
    others = [
        {
            "step_index": index,
            "tool": "math",
            "input": {
                "expression": "a+1",
                "variables": {"a": {"$ref": f"steps.{index - 1}.output.result"}},
            },
        }
        for index in range(2, steps + 1)
    ]
    plan = {"steps": [first, *others]}
    body = {"task_definition": {}, "plan": plan, "max_steps": steps, "timeout_seconds": 60}
    return json.dumps(body).encode()


def code_plan() -> bytes:
    """A body whose plan is one step of a little code."""
    code = "result = sum(n * n for n in input_data)"
    step = {
        "step_index": 1,
        "tool": "python_sandbox",
        "input": {"code": code, "input_data": [1, 2, 3]},
    }
    return json.dumps({"task_definition": {}, "plan": {"steps": [step]}}).encode()


def create_latency(target: Target, *, count: int, calm: bool) -> Latency:
    """One-step tasks one after the other, each submission answered when it is stored.

    `calm`: the next is submitted when the one before has ended; otherwise as soon as the one before
    is acknowledged, while the tasks run.
    """
    connection, body = Connection(target), math_plan(1)
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        accepted = connection.execute(body, wait=False)
        seconds.append(time.perf_counter() - began)
        if calm:
            require_success(connection.ended(accepted["task_id"]))
    return latency_of(seconds)


def end_to_end(target: Target, *, count: int) -> Latency:
    """Three-step tasks one after the other, from submission to the answer with the result."""
    connection, body = Connection(target), math_plan(3)
    return latency_of([timed(connection, body) for _ in range(count)])


def per_step(target: Target, *, count: int, steps: int = 40) -> Latency:
    """Execution time of a chain of math steps, divided by the steps, by the database's clock."""
    connection, body = Connection(target), math_plan(steps)
    seconds = []
    for _ in range(count):
        done = connection.execute(body, wait=True)
        require_success(done)
        seconds.append(float(done["duration_seconds"]) / steps)
    return latency_of(seconds)


def throughput(
    target: Target, *, clients: int, seconds: float, body: bytes | None = None
) -> Throughput:
    """Closed loop: each client submits a task, of three math steps unless `body` is another, waits
    for its end, and again.
    """
    task = body or math_plan(3)
    processes = min(clients, _MOST_PROCESSES)
    shares = [clients // processes + (n < clients % processes) for n in range(processes)]
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.SimpleQueue[tuple[float, list[float]]] = context.SimpleQueue()
    barrier = context.Barrier(processes)
    workers = [
        context.Process(target=_clients, args=(target, (share, seconds, task), barrier, results))
        for share in shares
    ]
    for worker in workers:
        worker.start()
    answers = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    took = max(elapsed for elapsed, _ in answers)
    latencies = [one for _, seen in answers for one in seen]
    return Throughput(
        clients=clients,
        processes=processes,
        seconds=took,
        tasks=len(latencies),
        per_second=len(latencies) / took,
        latency=latency_of(latencies),
    )


def _clients(
    target: Target,
    work: tuple[int, float, bytes],
    barrier: threading.Barrier,
    results: multiprocessing.SimpleQueue[tuple[float, list[float]]],
) -> None:
    count, seconds, body = work
    seen: list[float] = []
    connections = [Connection(target) for _ in range(count)]
    for connection in connections:
        timed(connection, body)
    barrier.wait()
    began = time.perf_counter()

    def loop(connection: Connection) -> None:
        while time.perf_counter() - began < seconds:
            seen.append(timed(connection, body))

    threads = [threading.Thread(target=loop, args=(one,)) for one in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((time.perf_counter() - began, seen))


def timed(connection: Connection, body: bytes) -> float:
    """Seconds from the submission of a task to the answer with its result; RuntimeError unless it
    succeeds.
    """
    began = time.perf_counter()
    done = connection.execute(body, wait=True)
    took = time.perf_counter() - began
    require_success(done)
    return took


def require_success(done: dict[str, Any]) -> None:
    """RuntimeError unless a task succeeded."""
    if done["status"] != "succeeded":
        raise RuntimeError(f"a task {done['status']}: {done['error']}")
