"""The recipe of docs/determinism.md: exact bytes, and what does and does not change a hash."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from libs.core.canonical import Json
from libs.core.hashing import plan_hash, step_hash, task_hash
from libs.core.plan import Limits, Plan, Step
from libs.core.tool_spec import ToolRef, tool_set_digest

_MATH = ToolRef("math", "1", "ab" * 32)
_PLAN = Plan(
    steps=(Step(step_index=1, tool="math", input={"expression": "1+1"}),),
    limits=Limits(max_steps=12),
)
_STEP: dict[str, Json] = {
    "step_index": 1,
    "tool": "math@1",
    "resolved_input": {"expression": "1+1"},
    "output": {"result": 2},
    "failure_code": None,
}


def _sha(tag: str, text: str) -> str:
    return hashlib.sha256(f"{tag}\n{text}".encode()).hexdigest()


def _step(change: dict[str, Json] | None = None, *, previous: str = "00") -> str:
    return step_hash(previous, **(_STEP | (change or {})))  # type: ignore[arg-type]  # by name


def test_plan_hash_covers_input_limits_steps_and_tool_set_digest() -> None:
    body = (
        '{"input":{"topic":"x"},"limits":{"max_steps":12},'
        '"steps":[{"input":{"expression":"1+1"},"step_index":1,"tool":"math"}],'
        f'"tool_set":"{tool_set_digest([_MATH])}"}}'
    )

    assert plan_hash(_PLAN, tools=[_MATH], task_input={"topic": "x"}) == _sha("pawl:plan:v1", body)


def test_step_hash_covers_the_step_and_the_hash_before() -> None:
    body = (
        '{"failure_code":null,"input":{"expression":"1+1"},"output":{"result":2},"previous":"00",'
        '"status":"succeeded","step_index":1,"tool":"math@1"}'
    )

    assert _step() == _sha("pawl:step:v1", body)


def test_a_failed_step_hashes_null_output_and_its_code() -> None:
    body = (
        '{"failure_code":"TIMEOUT","input":{"expression":"1+1"},"output":null,"previous":"00",'
        '"status":"failed","step_index":1,"tool":"math@1"}'
    )

    assert _step({"output": None, "failure_code": "TIMEOUT"}) == _sha("pawl:step:v1", body)


def test_task_hash_covers_plan_steps_state_and_failure() -> None:
    body = '{"failure_code":"TIMEOUT","plan_hash":"aa","state":"failed","step_hashes":["bb","cc"]}'

    made = task_hash("aa", step_hashes=("bb", "cc"), state="failed", failure_code="TIMEOUT")

    assert made == _sha("pawl:task:v1", body)


@pytest.mark.parametrize(
    "change",
    [
        {"step_index": 2},
        {"tool": "math@2"},
        {"resolved_input": {"expression": "1+2"}},
        {"output": {"result": 3}},
        {"output": None, "failure_code": "TOOL_ERROR"},
    ],
)
def test_step_hash_changes_with_each_member(change: dict[str, Json]) -> None:
    assert _step(change) != _step()


def test_step_hash_changes_with_the_hash_before() -> None:
    assert _step(previous="01") != _step(previous="00")


@pytest.mark.parametrize(
    "other",
    [
        replace(_PLAN, limits=Limits(max_steps=13)),
        replace(_PLAN, limits=Limits()),
        replace(_PLAN, steps=()),
        replace(_PLAN, steps=(replace(_PLAN.steps[0], tool="maths"),)),
    ],
)
def test_plan_hash_changes_with_the_plan(other: Plan) -> None:
    assert plan_hash(other, tools=[_MATH], task_input={}) != plan_hash(
        _PLAN, tools=[_MATH], task_input={}
    )


def test_plan_hash_changes_with_tools_and_input() -> None:
    hashes = {
        plan_hash(_PLAN, tools=[_MATH], task_input={}),
        plan_hash(_PLAN, tools=[ToolRef("math", "2", _MATH.digest)], task_input={}),
        plan_hash(_PLAN, tools=[ToolRef("math", "1", "cd" * 32)], task_input={}),
        plan_hash(_PLAN, tools=[_MATH], task_input={"a": 1}),
    }

    assert len(hashes) == 4


def test_hashes_forget_key_order_and_spelling_of_numbers() -> None:
    assert _step({"output": {"a": 1.0, "b": 1e3}}) == _step({"output": {"b": 1000, "a": 1}})


def test_the_three_hashes_live_in_different_domains() -> None:
    """Equal content under another tag is another hash: none can be passed off as another."""
    assert len({_sha(f"pawl:{kind}:v1", "{}") for kind in ("plan", "step", "task")}) == 3
