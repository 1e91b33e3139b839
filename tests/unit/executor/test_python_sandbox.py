from __future__ import annotations

from typing import Any

import pytest

from libs.core.errors import FailureCode, StepFailed
from libs.core.json_schema import compile_schema
from services.executor.sandbox.model import CodeResult
from services.executor.step_validation import output_text
from services.executor.tools.python_sandbox import (
    MOST_SECONDS,
    PythonSandboxTool,
    seed_of,
    wall_of,
)
from services.executor.tools.registry import ToolRegistry
from tests.executor_world import CREATED_AT, make_context
from tests.sandbox_fakes import FakeSandbox


def test_the_version_says_what_runs_the_code() -> None:
    (ref,) = ToolRegistry([PythonSandboxTool(FakeSandbox())]).refs

    assert ref.label == "python_sandbox@1.0.0+docker.py3.11.2.0a1b2c3d4e5f.0123456789ab"


async def test_code_gets_its_input_the_tasks_creation_as_time_and_a_seed_of_its_input() -> None:
    sandbox = FakeSandbox(lambda _: CodeResult(result_json='{"a": 1e16}', stdout="o", stderr="e"))
    arguments: dict[str, Any] = {"code": "result = 1", "input_data": {"b": 2, "a": [1.0]}}

    output = await PythonSandboxTool(sandbox).call(arguments, make_context())

    (request,) = sandbox.requests
    assert request.input_json == '{"a":[1],"b":2}'
    assert request.now == CREATED_AT.timestamp()
    assert request.seed == seed_of({"input_data": {"a": [1], "b": 2}, "code": "result = 1"})
    assert output == {"result": {"a": 1e16}, "stdout": "o", "stderr": "e"}
    assert 0 <= request.seed < 2**64


async def test_an_integer_that_json_cannot_carry_exactly_is_no_output() -> None:
    sandbox = FakeSandbox(lambda _: CodeResult(result_json=str(2**53), stdout="", stderr=""))

    output = await PythonSandboxTool(sandbox).call({"code": ""}, make_context())

    with pytest.raises(StepFailed) as refused:
        output_text(output)
    assert refused.value.code is FailureCode.OUTPUT_SCHEMA


@pytest.mark.parametrize("extra", ["image", "env", "memory_mb", "network", "timeout"])
def test_nothing_of_the_sandbox_is_the_callers_to_choose(extra: str) -> None:
    schema = compile_schema(PythonSandboxTool(FakeSandbox()).spec.input_schema)

    assert schema.violations({"code": "print(1)", "input_data": {"any": [1]}}) == []
    assert schema.violations({"code": "print(1)", extra: "x"})
    assert schema.violations({"input_data": 1})


@pytest.mark.parametrize(
    ("seconds", "wall"), [(None, MOST_SECONDS), (10.0, 9.9), (0.5, 0.475), (1e9, MOST_SECONDS)]
)
def test_code_ends_a_little_before_its_step_does(seconds: float | None, wall: float) -> None:
    assert wall_of(seconds) == pytest.approx(wall)
