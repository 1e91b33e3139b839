"""X-Request-Id: on every answer, and on every line that any process logs of that request."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from libs.bus.topics import TASK_EVENTS
from libs.cli.stack import Stack, running_stack
from tests.e2e.tasks import CHAIN, EXECUTE, FAILING
from tests.published import check_published, read_published
from tests.stacks import StackEnvirons
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

TASKS = "/api/v1/tasks"
UNKNOWN = "0199d2a1-7c3e-7b52-9a64-3f0d5c1b8e27"
EMITTING: dict[str, Any] = {
    "task_definition": {},
    "plan": {
        "steps": [
            {
                "step_index": 1,
                "tool": "artifact",
                "input": {"type": "note", "data": {"text": "x"}},
            }
        ]
    },
}
SLOW: dict[str, Any] = {
    "task_definition": {},
    "plan": {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 20}}]},
}
REFUSED: dict[str, Any] = {
    "task_definition": {},
    "plan": {"steps": [{"step_index": 1, "tool": "nobody", "input": {}}]},
}


@pytest_asyncio.fixture(scope="module")
async def talkative(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> AsyncIterator[Stack]:
    """A Pawl that logs at debug."""
    data_dir = tmp_path_factory.mktemp("ids") / "data"
    with running_stack(data_dir, environ=environs.fresh(PAWL_LOG_LEVEL="debug")) as running:
        yield running
        await check_published(running)


class Caller:
    """Sends each request under an id of its own, which the answer must repeat."""

    def __init__(self, stack: Stack) -> None:
        self._server = stack.server
        self._prefix = f"e2e-{time.monotonic_ns()}"
        self.sent: list[str] = []

    def call(
        self, method: str, path: str, body: Any = None, *, status: int = 200, **headers: str
    ) -> Any:
        """The JSON of the answer."""
        request_id = f"{self._prefix}-{len(self.sent)}"
        self.sent.append(request_id)
        parts = urlsplit(self._server.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=40)
        sent = {"Authorization": f"Bearer {self._server.api_key}", "X-Request-Id": request_id}
        data = None if body is None else json.dumps(body)
        connection.request(
            method,
            path,
            body=data,
            headers=sent | {"Content-Type": "application/json"} | headers,
        )
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status == status, content
        assert answer.headers["X-Request-Id"] == request_id
        is_json = "json" in (answer.headers["Content-Type"] or "")
        return json.loads(content) if content and is_json else content

    @property
    def last(self) -> str:
        """The id of the last request."""
        return self.sent[-1]


def logged(stack: Stack) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every line of every process of Pawl: the service, and the line."""
    for path in sorted((stack.data_dir / "logs").glob("*.log")):
        if path.stem in {"postgres", "pawl"}:
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            said = _read(path, line)
            yield str(said["service"]), said


def _read(path: Path, line: str) -> dict[str, Any]:
    said = json.loads(line)
    assert isinstance(said, dict), (path, line)
    return said


def services_that_said(stack: Stack, request_id: str) -> set[str]:
    return {service for service, line in logged(stack) if line.get("request_id") == request_id}


async def test_every_line_about_a_request_says_its_id(talkative: Stack) -> None:
    caller = Caller(talkative)
    made: dict[str, str] = {}
    for body in (CHAIN, FAILING, EMITTING):
        done = caller.call("POST", f"{EXECUTE}?wait=25", body)
        made[done["task_id"]] = caller.last
    whole = caller.call("POST", f"{TASKS}/batch", {"tasks": [CHAIN, EMITTING]})
    made |= dict.fromkeys([task["task_id"] for task in whole["tasks"]], caller.last)
    replayed = caller.call("POST", f"{TASKS}/{next(iter(made))}/replay?wait=25")
    made[replayed["task_id"]] = caller.last
    slow = caller.call("POST", EXECUTE, SLOW)["task_id"]
    made[slow] = caller.last
    cancelled = caller.call("POST", f"/v1/tasks/{slow}/cancel")
    assert cancelled["status"] == "cancelled"
    for task_id in made:
        caller.call("GET", f"{TASKS}/{task_id}?wait=25")
        caller.call("GET", f"{TASKS}/{task_id}/trace")
        caller.call("GET", f"{TASKS}/{task_id}/events")
    caller.call("GET", TASKS)
    caller.call("GET", f"{TASKS}/{UNKNOWN}", status=404)
    caller.call("POST", EXECUTE, REFUSED, status=422)
    caller.call("POST", EXECUTE, [], status=422)
    caller.call("GET", "/nowhere", status=404)
    caller.call("DELETE", EXECUTE, status=405)
    caller.call("GET", f"{TASKS}/{slow}", status=304, **{"If-None-Match": "*"})
    caller.call("GET", TASKS, status=401, Authorization="Bearer x")

    first = next(iter(made.values()))
    everybody = {"gateway", "planner", "scheduler", "executor", "auth"}
    await eventually(lambda: everybody <= services_that_said(talkative, first), timeout=20)
    emitting = list(made.values())[2]
    await eventually(lambda: "artifact" in services_that_said(talkative, emitting), timeout=20)
    known = set(caller.sent)
    traces = {
        line["trace_id"]
        for _, line in logged(talkative)
        if line.get("request_id") in known and line.get("trace_id")
    }
    lost = [
        (service, line)
        for service, line in logged(talkative)
        if (any(task_id in json.dumps(line) for task_id in made) or line.get("trace_id") in traces)
        and line.get("request_id") not in known
    ]
    assert not lost, lost[:5]
    # Nobody mixes them up: what runs for a task runs for the request that submitted it.
    for service, line in logged(talkative):
        if service == "executor" and line.get("task_id") in made:
            assert line["request_id"] == made[line["task_id"]], line
    for request_id in caller.sent:
        assert "gateway" in services_that_said(talkative, request_id), request_id


async def test_events_of_a_task_say_the_id_of_its_request(talkative: Stack) -> None:
    caller = Caller(talkative)
    task_id = caller.call("POST", f"{EXECUTE}?wait=25", CHAIN)["task_id"]

    await check_published(talkative)

    records = [
        one
        for one in await read_published(talkative)
        if one.topic == TASK_EVENTS and one.key == task_id
    ]
    assert records
    assert {one.headers["ce_requestid"] for one in records} == {caller.last}


def test_an_id_that_is_none_is_replaced_and_forges_no_line(talkative: Stack) -> None:
    forged = "a\\nINFO forged"
    parts = urlsplit(talkative.server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.request(
        "GET",
        TASKS,
        headers={
            "Authorization": f"Bearer {talkative.server.api_key}",
            "X-Request-Id": forged,
        },
    )
    answer = connection.getresponse()
    answer.read()
    connection.close()

    assert answer.headers["X-Request-Id"].startswith("req_")
    assert not [line for _, line in logged(talkative) if forged in json.dumps(line)]
