"""Clients that ask for work while something goes wrong, and write down every answer they get."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from libs.cli.client import Server
from tests.faults.records import Operation, OperationKind, Outcome
from tests.waiting import eventually

EXECUTE = "/api/v1/tasks/execute"
ANSWER_SECONDS = 15.0
"""How long a client waits for an answer beyond what it asked to wait."""
RETRY_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Status 0: there was none."""

    status: int
    retry_after: str | None = None
    body: Mapping[str, Any]


class ClientLog:
    """What all clients of a run have asked and been told."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._lock = threading.Lock()

    def add(self, operation: Operation) -> None:
        """Note one operation, with its last answer."""
        with self._lock:
            self._operations.append(operation)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All of them, as they ended."""
        with self._lock:
            return tuple(self._operations)

    def count(self, outcome: Outcome) -> int:
        """How many ended so."""
        return sum(operation.outcome == outcome for operation in self.operations)

    def created(self) -> list[UUID]:
        """The tasks whose creation was acknowledged."""
        done = (o for o in self.operations if o.kind == "create" and o.outcome == "ok")
        return [o.task_id for o in done if o.task_id is not None]


class FaultClient:
    """One client with one kept connection; every call is noted in the log and none raises."""

    def __init__(self, server: Server, log: ClientLog) -> None:
        parts = urlsplit(server.url)
        self._place = (parts.hostname or "", parts.port)
        self._headers = {
            "Authorization": f"Bearer {server.api_key}",
            "Content-Type": "application/json",
        }
        self._log = log
        self._connection: http.client.HTTPConnection | None = None

    def create(
        self,
        body: Mapping[str, Any],
        key: str,
        *,
        wait_seconds: float = 0,
        retry_seconds: float = 0,
    ) -> Operation:
        """Submit a task whose input is marked with `key`, which is its Idempotency-Key too.

        While the outcome is open the same is sent again, for `retry_seconds`.
        """
        marked = {**body, "task_definition": {**body.get("task_definition", {}), "mark": key}}
        began, attempts = time.time(), 0
        while True:
            attempts += 1
            answer = self._send(
                "POST",
                f"{EXECUTE}?wait={wait_seconds:g}" if wait_seconds else EXECUTE,
                content=json.dumps(marked).encode(),
                headers={"Idempotency-Key": key},
                wait_seconds=wait_seconds,
            )
            if _outcome(answer) != "unknown" or time.time() - began >= retry_seconds:
                break
            time.sleep(RETRY_PAUSE_SECONDS)
        task_id = answer.body.get("task_id")
        return self._note(
            "create",
            answer,
            began,
            key=key,
            task_id=None if task_id is None else UUID(task_id),
            wait_seconds=wait_seconds,
            attempts=attempts,
        )

    def get(self, task_id: UUID, *, wait_seconds: float = 0) -> Operation:
        """Read a task."""
        began = time.time()
        query = f"?wait={wait_seconds:g}" if wait_seconds else ""
        path = f"/api/v1/tasks/{task_id}{query}"
        answer = self._send("GET", path, wait_seconds=wait_seconds)
        return self._note("get", answer, began, task_id=task_id, wait_seconds=wait_seconds)

    def cancel(self, task_id: UUID) -> Operation:
        """Cancel a task; the server waits for at most six seconds."""
        began = time.time()
        path = f"/v1/tasks/{task_id}/cancel"
        answer = self._send("POST", path, content=b"{}", wait_seconds=6)
        return self._note("cancel", answer, began, task_id=task_id, wait_seconds=6)

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _note(self, kind: OperationKind, answer: _Answer, began: float, **more: Any) -> Operation:
        operation = Operation(
            kind=kind,
            outcome=_outcome(answer),
            status=answer.status,
            retry_after=answer.retry_after,
            answer=answer.body,
            began_at=began,
            ended_at=time.time(),
            **more,
        )
        self._log.add(operation)
        return operation

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_seconds: float = 0,
    ) -> _Answer:
        if self._connection is None:
            host, port = self._place
            self._connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
        try:
            if self._connection.sock is not None:
                self._connection.sock.settimeout(ANSWER_SECONDS + wait_seconds)
            self._connection.request(method, path, content, {**self._headers, **(headers or {})})
            with self._connection.getresponse() as answer:
                return _Answer(
                    status=answer.status,
                    retry_after=answer.getheader("Retry-After"),
                    body=json.loads(answer.read()),
                )
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            return _Answer(status=0, body={"error": repr(error)})


def _outcome(answer: _Answer) -> Outcome:
    if answer.status in {200, 201, 202}:
        return "ok"
    return "failed" if 400 <= answer.status < 500 else "unknown"


async def more_done(log: ClientLog, count: int, *, timeout: float = 30) -> None:
    """Wait until so many more operations have gone well."""
    before = log.count("ok")
    await eventually(lambda: log.count("ok") >= before + count, timeout=timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a load submits: some calls of the ledger, each of up to `most_seconds`."""

    least_steps: int = 1
    most_steps: int = 3
    most_seconds: float = 0.03
    failing_share: float = 0.05
    total_seconds: float = 20.0

    def body(self, rng: random.Random) -> dict[str, Any]:
        """One task; with a failing share of them the last step fails."""
        count = rng.randint(self.least_steps, self.most_steps)
        inputs: list[dict[str, Any]] = [
            {"seconds": round(rng.uniform(0, self.most_seconds), 3)} for _ in range(count)
        ]
        if rng.random() < self.failing_share:
            inputs[-1]["fail"] = True
        return plan_of(*inputs, total_seconds=self.total_seconds)


def plan_of(*inputs: Mapping[str, Any], total_seconds: float = 20.0) -> dict[str, Any]:
    """A body whose plan calls the ledger with these inputs."""
    steps = [
        {"step_index": index, "tool": "ledger", "input": dict(one)}
        for index, one in enumerate(inputs, start=1)
    ]
    return {"task_definition": {}, "plan": {"steps": steps}, "timeout_seconds": total_seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """`per_second` arrivals whatever the answers, by at most `clients` at a time; without it every
    client submits when it has been answered. `retry_seconds`: what is left open is sent again.
    """

    clients: int = 6
    per_second: float | None = None
    wait_seconds: float = 0
    retry_seconds: float = 0
    readers: int = 1


class Load:
    """Many clients at once, for as long as the block of `running` lasts."""

    def __init__(self, server: Server, *, seed: str, work: Work | None = None) -> None:
        self.log = ClientLog()
        self._server = server
        self._seed = seed
        self._work = work or Work()
        self._stop = threading.Event()
        self._next = 0
        self._lock = threading.Lock()
        self._began = 0.0

    @contextmanager
    def running(self, pace: Pace | None = None) -> Iterator[ClientLog]:
        """Submit and read during the block; at its end every open call is waited for."""
        pace = pace or Pace()
        self._stop.clear()
        self._began = time.monotonic()
        first = self._next
        threads = [
            threading.Thread(target=self._submit, args=(pace, first)) for _ in range(pace.clients)
        ] + [threading.Thread(target=self._read, args=(n,)) for n in range(pace.readers)]
        for thread in threads:
            thread.start()
        try:
            yield self.log
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _submit(self, pace: Pace, first: int) -> None:
        client = FaultClient(self._server, self.log)
        while not self._stop.is_set():
            number = self._take()
            if pace.per_second is not None:
                due = self._began + (number - first) / pace.per_second
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    break
            rng = random.Random(f"{self._seed}:{number}")
            client.create(
                self._work.body(rng),
                f"{self._seed}-{number}",
                wait_seconds=pace.wait_seconds,
                retry_seconds=pace.retry_seconds,
            )
        client.close()

    def _take(self) -> int:
        with self._lock:
            self._next += 1
            return self._next

    def _read(self, number: int) -> None:
        """Read one of the newest tasks ten times a second."""
        client, rng = FaultClient(self._server, self.log), random.Random(f"{self._seed}r{number}")
        while not self._stop.wait(0.1):
            known = self.log.created()[-20:]
            if known:
                client.get(rng.choice(known))
        client.close()
