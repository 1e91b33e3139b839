"""The Python client against a real server."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import pytest

import pawl
from libs.cli.stack import Stack
from tests.e2e.tasks import CHAIN, FAILING

pytestmark = pytest.mark.e2e

_LONG = {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 9}}]}


@pytest.fixture
def api(stack: Stack) -> Iterator[pawl.Client]:
    with pawl.Client(stack.server.url, stack.server.api_key) as client:
        yield client


def test_a_task_is_submitted_followed_and_verified(api: pawl.Client) -> None:
    accepted = api.submit(**CHAIN)

    events = list(api.stream(accepted))
    task = api.wait(accepted)
    trace = api.trace(accepted)

    assert (task.raise_for_failure().status, task.result) == ("succeeded", {"result": 2.4})
    assert task.plan is not None
    assert [step.tool for step in task.plan.steps] == ["math", "json_query", "math"]
    assert [(one.seq, one.event) for one in events] == [(e.seq, e.event) for e in trace.events]
    assert events[-1].is_last
    assert list(api.stream(accepted, after=events[-1].seq)) == []
    assert trace.verify(expected_task_hash=trace.summary.task_hash).holds
    assert api.verify(accepted).holds


def test_a_failed_task_says_where_and_why(api: pawl.Client) -> None:
    accepted = api.submit(**FAILING, wait_seconds=20)

    assert accepted.has_ended
    with pytest.raises(pawl.TaskFailed, match=r"failed in step 2 \(math\): TOOL_ERROR"):
        api.get(accepted).raise_for_failure()


def test_the_same_key_is_the_same_task(api: pawl.Client) -> None:
    key = secrets.token_hex(8)

    first, again = (api.submit({"n": 1}, idempotency_key=key) for _ in range(2))
    other = api.submit({"n": 1})

    assert (first.task_id, first.is_replayed, again.is_replayed) == (again.task_id, False, True)
    assert other.task_id != first.task_id
    with pytest.raises(pawl.Invalid) as refused:
        api.submit({"n": 2}, idempotency_key=key)
    assert refused.value.code == "idempotency_key_reused"
    assert refused.value.request_id


def test_a_task_is_waited_for_and_cancelled_once(api: pawl.Client) -> None:
    accepted = api.submit(plan=_LONG)

    with pytest.raises(pawl.WaitExpired) as expired:
        api.wait(accepted, timeout_seconds=0.2)
    cancelled = api.cancel(accepted)

    assert not expired.value.task.has_ended
    assert cancelled.is_cancelled
    with pytest.raises(pawl.Conflict):
        api.cancel(accepted)


def test_a_replay_comes_to_the_same(api: pawl.Client) -> None:
    original = api.submit(**CHAIN, wait_seconds=20)

    replay = api.trace(api.replay(original, wait_seconds=20)).replay

    assert replay is not None
    assert (replay.of_task_id, replay.matches) == (original.task_id, True)


def test_what_is_refused_names_the_field(api: pawl.Client) -> None:
    plan = {"steps": [{"step_index": 1, "tool": "no_such_tool", "input": {}}]}

    with pytest.raises(pawl.Invalid) as refused:
        api.submit(plan=plan)
    with pytest.raises(pawl.NotFound):
        api.get("..")

    (error,) = refused.value.errors
    assert (refused.value.code, error.field) == ("unknown_tool", "plan.steps[0].tool")


def test_a_key_that_nobody_knows_is_unauthenticated(stack: Stack) -> None:
    with (
        pawl.Client(stack.server.url, "pawl_live_nobody") as stranger,
        pytest.raises(pawl.Unauthenticated),
    ):
        stranger.tools()


def test_the_catalogue_has_schemas_and_examples(api: pawl.Client) -> None:
    tools = {tool.name: tool for tool in api.tools()}

    assert tools["math"].available
    assert tools["math"].input_schema["type"] == "object"
    assert tools["math"].examples


def test_the_stream_of_all_tasks_has_every_event(api: pawl.Client) -> None:
    accepted = api.submit(**CHAIN, wait_seconds=20)

    kept = [
        one for one in api.stream_all(after=0, idle_seconds=1) if one.task_id == accepted.task_id
    ]

    assert [one.seq for one in kept] == [one.seq for one in api.trace(accepted).events]


async def test_many_tasks_run_side_by_side(stack: Stack) -> None:
    async with pawl.AsyncClient(stack.server.url, stack.server.api_key) as api:

        async def square(n: int) -> object:
            accepted = await api.submit({"expression": f"{n} * {n}"})
            async for event in api.stream(accepted):
                assert event.task_id == accepted.task_id
            return (await api.wait(accepted)).raise_for_failure().result

        results = await asyncio.gather(*(square(n) for n in range(20)))

    assert results == [{"result": n * n} for n in range(20)]
