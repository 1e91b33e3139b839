"""Hostile code as steps of a whole Pawl, once with each sandbox; then Pawl is as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.hostile.attacks import SANDBOX_OP, attack
from tests.hostile.case_files import Case, cases_of
from tests.hostile.sandboxed import HONEST, Sandboxed, SandboxedStacks
from tests.hostile.target import EXECUTE
from tests.sandbox.guest_world import BACKENDS
from tests.stacks import StackEnvirons

CASES = cases_of("sandbox_code")

pytestmark = pytest.mark.e2e


@pytest_asyncio.fixture(scope="session")
async def stacks(
    environs: StackEnvirons, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SandboxedStacks]:
    stacks = SandboxedStacks(environs, tmp_path_factory.mktemp("sandboxed"))
    yield stacks
    await stacks.close()


@pytest_asyncio.fixture(params=BACKENDS)
async def sandboxed(stacks: SandboxedStacks, request: pytest.FixtureRequest) -> Sandboxed:
    return await stacks.get(request.param)


def expected_on(name: str, case: Case) -> Case:
    """The case with what is expected in this sandbox, where that differs."""
    return replace(case, expect=case.expect.get("on", {}).get(name, case.expect))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_hostile_code(case: Case, sandboxed: Sandboxed) -> None:
    await attack(expected_on(sandboxed.name, case), sandboxed.target)

    await sandboxed.check_left()


async def test_honest_code_runs_beside_hostile_code(sandboxed: Sandboxed) -> None:
    honest = Case(
        id="honest",
        input={"op": SANDBOX_OP, "input": HONEST},
        expect={"task": "succeeded", "result": "5", "stdout": "5\n"},
    )
    for case in [case for case in CASES if "task" in case.expect][:5]:
        await attack(expected_on(sandboxed.name, case), sandboxed.target)
        await attack(honest, sandboxed.target)


async def test_nul_is_data_from_step_to_trace_to_replay(sandboxed: Sandboxed) -> None:
    target = sandboxed.target
    made = {"code": "result = {'a\\0': 'b\\0'}; print('c\\0')"}
    handed = {"code": "result = input_data", "input_data": {"$ref": "steps.1.output"}}
    steps = [
        {"step_index": index, "tool": "python_sandbox", "input": value}
        for index, value in enumerate((made, handed), start=1)
    ]
    body = {"task_definition": {}, "plan": {"steps": steps}}

    answer = await target.call("POST", EXECUTE, key=target.key, body=body)
    path = f"/api/v1/tasks/{answer.json['task_id']}"
    task = (await target.call("GET", f"{path}?wait=20", key=target.key)).json
    again = await target.call("POST", f"{path}/replay", key=target.key, body={})
    replayed = f"/api/v1/tasks/{again.json['task_id']}"
    await target.call("GET", f"{replayed}?wait=20", key=target.key)
    trace = (await target.call("GET", f"{replayed}/trace", key=target.key)).json

    assert task["result"]["result"] == {"result": {"a\0": "b\0"}, "stdout": "c\0\n", "stderr": ""}
    assert trace["steps"][1]["output"] == task["result"]
    assert trace["replay"]["matches"] is True, trace["replay"]
