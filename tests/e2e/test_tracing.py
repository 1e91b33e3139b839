"""One trace id through gateway, scheduler, executor, auth and the bus; spans where they are asked
for.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from libs.bus.topics import TASK_EVENTS
from libs.cli.client import Client
from libs.cli.stack import Stack, running_stack
from libs.process.tracing import trace_id_of
from tests.collector import Collector, TakenSpan, collector
from tests.e2e.tasks import CHAIN, EXECUTE, FAILING, finished
from tests.published import check_published, read_published
from tests.stacks import StackEnvirons
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"
SENT = f"00-{TRACE_ID}-{CLIENT_SPAN}-01"
LINES = {
    "gateway": "request answered",
    "scheduler": "task stored",
    "executor": "task begins",
    "auth": "event handled",
}
"""What each service says of a task at debug."""
DEAD = "http://127.0.0.1:9"
"""The port of `discard`, where nobody listens."""


@pytest_asyncio.fixture(scope="module")
async def talkative(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> AsyncIterator[Stack]:
    """A Pawl that logs at debug and exports nothing."""
    data_dir = tmp_path_factory.mktemp("talkative") / "data"
    with running_stack(data_dir, environ=environs.fresh(PAWL_LOG_LEVEL="debug")) as running:
        yield running
        await check_published(running)


def submit(stack: Stack, body: dict[str, Any], *, traceparent: str = "") -> tuple[str, str]:
    """Run a task to its end; its id, and the request id of the submit."""
    request_id = f"e2e-{time.monotonic_ns()}"
    headers = {"X-Request-Id": request_id}
    if traceparent:
        headers["traceparent"] = traceparent
    answer = Client(stack.server).post(f"{EXECUTE}?wait=25", body, headers=headers)
    return answer["task_id"], request_id


def logged(data_dir: Path, service: str) -> Iterable[dict[str, Any]]:
    """The lines that the instances of a service have logged so far."""
    for path in (data_dir / "logs").glob(f"{service}*.log"):
        for line in path.read_text().splitlines():
            yield json.loads(line)


def trace_ids_logged(stack: Stack, service: str, *, ids: set[str]) -> set[str]:
    """The trace ids of the service's lines about a task or a request."""
    return {
        line.get("trace_id", "none")
        for line in logged(stack.data_dir, service)
        if line["event"] == LINES[service]
        and ids & {line.get("request_id"), line.get("task_id"), line.get("event_id", "")[:36]}
    }


async def trace_ids_published(stack: Stack, task_id: str) -> set[str]:
    """The trace ids of every record of a task, in both of its headers."""
    records = [
        one
        for one in await read_published(stack)
        if one.topic == TASK_EVENTS and one.key == task_id
    ]
    assert records
    return {
        trace_id_of(one.headers.get(name, ""))
        for one in records
        for name in ("traceparent", "ce_traceparent")
    }


@pytest.mark.parametrize("sent", [SENT, "", "00-malformed-01"])
async def test_one_trace_id_is_in_every_log_and_on_every_record(
    talkative: Stack, sent: str
) -> None:
    task_id, request_id = submit(talkative, CHAIN, traceparent=sent)

    ids = {task_id, request_id}
    await eventually(lambda: trace_ids_logged(talkative, "auth", ids=ids), timeout=20)
    await check_published(talkative)
    found = {service: trace_ids_logged(talkative, service, ids=ids) for service in LINES}
    (trace_id,) = await trace_ids_published(talkative, task_id)
    assert found == {service: {trace_id} for service in LINES}
    assert (trace_id == TRACE_ID) == (sent == SENT)
    assert len(trace_id) == 32


def the(spans: Iterable[TakenSpan], service: str, name: str) -> TakenSpan:
    (found,) = (one for one in spans if (one.service, one.name) == (service, name))
    return found


def of_trace(taken: Collector, trace_id: str) -> list[TakenSpan]:
    return [one for one in list(taken.spans) if one.trace_id == trace_id]


async def test_spans_of_all_services_arrive_under_the_right_parents(
    tmp_path: Path, environs: StackEnvirons
) -> None:
    with collector() as taken:
        env = environs.fresh(OTEL_EXPORTER_OTLP_ENDPOINT=taken.url, OTEL_BSP_SCHEDULE_DELAY="100")
        with running_stack(tmp_path / "data", environ=env) as stack:
            task_id, _ = submit(stack, FAILING, traceparent=SENT)
            await eventually(
                lambda: (
                    {"pawl-auth", "pawl-executor", "pawl-gateway", "pawl-scheduler"}
                    <= {one.service for one in of_trace(taken, TRACE_ID)}
                    and any(one.name.startswith("process") for one in of_trace(taken, TRACE_ID))
                ),
                timeout=20,
            )
            # Without a sent one, the gateway begins the trace.
            other_id, _ = submit(stack, CHAIN)
            Client(stack.server).get("/readyz")
    spans = of_trace(taken, TRACE_ID)

    request = the(spans, "pawl-gateway", f"POST {EXECUTE}")
    stored = the(spans, "pawl-scheduler", "pawl.scheduler.v1.SchedulerService/SubmitTask")
    run = the(spans, "pawl-executor", "run_task")
    steps = [one for one in spans if one.name == "execute_tool math"]
    handled = [one for one in spans if one.name == f"process {TASK_EVENTS}"]
    key_checks = [one for one in spans if one.service == "pawl-auth" and one not in handled]
    assert request.parent_id == CLIENT_SPAN
    assert {one.parent_id for one in (stored, *key_checks)} == {request.span_id}
    assert {one.parent_id for one in (run, *handled)} == {stored.span_id}
    assert [one.parent_id for one in steps] == [run.span_id] * 2
    assert sorted(one.failed for one in steps) == [False, True]
    assert handled
    assert run.attributes["pawl.task_id"] == task_id
    assert request.attributes["http.response.status_code"] == 200
    other = next(
        one
        for one in taken.spans
        if one.name == "run_task" and one.attributes["pawl.task_id"] == other_id
    )
    assert the(of_trace(taken, other.trace_id), "pawl-gateway", f"POST {EXECUTE}").parent_id == ""
    assert not [one.name for one in taken.spans if "/readyz" in one.name]


def test_a_dead_collector_neither_fails_nor_slows_tasks(
    tmp_path: Path, environs: StackEnvirons
) -> None:
    env = environs.fresh(OTEL_EXPORTER_OTLP_ENDPOINT=DEAD, OTEL_BSP_SCHEDULE_DELAY="100")
    with running_stack(tmp_path / "data", environ=env) as stack:
        client = Client(stack.server)
        finished(client, CHAIN)
        began = time.monotonic()
        states = [finished(client, CHAIN)["status"] for _ in range(20)]
        took = time.monotonic() - began
        stopping = time.monotonic()
    stopped = time.monotonic() - stopping

    assert set(states) == {"succeeded"}
    assert took < 10
    assert stopped < 15
    for service in ("gateway", "scheduler", "executor", "auth"):
        said = [one for one in logged(tmp_path / "data", service) if "spans" in one["event"]]
        assert [one["event"] for one in said] == ["spans cannot be exported"], service
