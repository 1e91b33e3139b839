from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.hashing import plan_hash
from libs.core.json_schema import compile_schema
from libs.core.plan import Limits
from libs.core.references import resolve
from libs.core.tool_spec import ToolSpec
from services.planner.catalog import Catalog
from services.planner.model import FrozenPlan, GivenPlan, Offer, PlanRequest, Unplannable
from services.planner.service import Planner
from tests.unit.planner.fakes import FakeCatalogStore, HeldClock
from tests.unit.planner.shipped import EVERYTHING, MATH, TIER, make_plan, make_spec, step

OFFLINE_INPUTS: list[dict[str, Any]] = [
    {"expression": "1+1"},
    {"expression": "a*2", "variables": {"a": 2}},
    {"text": "One. Two."},
    {"text": "One. Two.", "topic": "two"},
    {"html": "<p>One.</p>"},
    {"html": "<p>One.</p>", "topic": "one"},
    {"data": {"$ref": "data, not a reference"}, "query": "a"},
    {"topic": "Summarize weekly release notes"},
]


async def planner_with(*specs: ToolSpec) -> Planner:
    clock = HeldClock()
    catalog = Catalog(FakeCatalogStore(clock), clock=clock)
    if specs:
        await catalog.register(Offer(executor_id="e", boot_id=UUID(int=1), tools=specs))
    return Planner(catalog, clock=clock)


def make_request(task_input: dict[str, Any], *, plan: Any = None, **changes: Any) -> PlanRequest:
    given = None if plan is None else GivenPlan(value=plan)
    fields: dict[str, Any] = {"asked": Limits(), "tier": TIER}
    return PlanRequest(task_input=task_input, given=given, **(fields | changes))


async def build(request: PlanRequest, *specs: ToolSpec) -> FrozenPlan | Unplannable:
    return await (await planner_with(*(specs or EVERYTHING))).build(request)


async def frozen(request: PlanRequest, *specs: ToolSpec) -> FrozenPlan:
    outcome = await build(request, *specs)
    assert isinstance(outcome, FrozenPlan), outcome
    return outcome


async def refused(request: PlanRequest, *specs: ToolSpec) -> PawlError:
    with pytest.raises(PawlError) as caught:
        await build(request, *specs)
    return caught.value


async def test_a_given_plan_is_frozen_with_exact_tools_and_its_hash() -> None:
    plan = make_plan(
        step(1), step(2, "wait", seconds={"$ref": "steps.1.output.result"}), step(3), max_steps=5
    )

    outcome = await frozen(make_request({"topic": "x"}, plan=plan))

    assert [ref.label for ref in outcome.tool_set] == ["math@1.0.0", "wait@1.0.0"]
    assert outcome.tool_set[0].digest == MATH.digest()
    assert outcome.planned_by == "caller"
    assert outcome.note is None
    assert outcome.plan_hash == plan_hash(
        outcome.plan, tools=outcome.tool_set, task_input={"topic": "x"}
    )
    assert outcome.plan.as_json()["steps"] == plan["steps"]


async def test_only_the_tools_that_the_steps_name_are_hashed() -> None:
    request = make_request({}, plan=make_plan(step(1)))

    first = await frozen(request, MATH)
    second = await frozen(request, *EVERYTHING, make_spec("aaa"))

    assert first == second


async def test_equal_requests_give_equal_hashes_and_others_do_not() -> None:
    one = await frozen(make_request({"a": 1, "b": 2.0}, plan=make_plan(step(1))))
    same = await frozen(make_request({"b": 2, "a": 1}, plan=make_plan(step(1), max_steps=12)))
    others = [
        await frozen(make_request({"a": 1, "b": 3}, plan=make_plan(step(1)))),
        await frozen(make_request({"a": 1, "b": 2}, plan=make_plan(step(1), max_steps=11))),
        await frozen(make_request({"a": 1, "b": 2}, plan=make_plan(step(1, expression="2")))),
        await frozen(
            make_request({"a": 1, "b": 2}, plan=make_plan(step(1))),
            make_spec("math", "1.0.1", input_schema=MATH.input_schema),
        ),
    ]

    assert one.plan_hash == same.plan_hash
    assert len({one.plan_hash, *(other.plan_hash for other in others)}) == 5


@pytest.mark.parametrize("task_input", OFFLINE_INPUTS, ids="+".join)
@pytest.mark.parametrize("max_steps", [None, 1, 2])
async def test_generated_plans_hold_for_their_tools(
    task_input: dict[str, Any], max_steps: int | None
) -> None:
    outcome = await frozen(make_request(task_input, asked=Limits(max_steps=max_steps)))

    assert outcome.planned_by == "offline"
    assert "without a model" in (outcome.note or "")
    schemas = {spec.name: compile_schema(spec.input_schema) for spec in EVERYTHING}
    first = outcome.plan.steps[0]
    resolved = resolve(first.input, task_input=task_input, outputs={})
    assert schemas[first.tool].violations(resolved) == []
    given = {"steps": outcome.plan.as_json()["steps"]}
    again = await frozen(make_request(task_input, plan=given, asked=Limits(max_steps=max_steps)))
    assert again.plan_hash == outcome.plan_hash


async def test_an_input_that_nobody_can_plan_is_an_answer() -> None:
    outcome = await build(make_request({}))

    assert isinstance(outcome, Unplannable)


@pytest.mark.parametrize(
    ("task_input", "said"),
    [
        ({"text": "x" * 200_001}, "text"),
        ({"topic": "x" * 200_001}, "text"),
        ({"text": "x", "topic": "y" * 1001}, "topic"),
    ],
)
async def test_an_input_that_its_tool_would_refuse_is_unplannable(
    task_input: dict[str, Any], said: str
) -> None:
    outcome = await build(make_request(task_input))

    assert isinstance(outcome, Unplannable)
    assert f"plan.steps[0].input.{said}" in outcome.message
    assert "xxx" not in outcome.message


async def test_a_tool_that_takes_something_else_makes_the_input_unplannable() -> None:
    other = make_spec("math", "2.0.0", input_schema={"type": "object", "required": ["formula"]})

    outcome = await build(make_request({"expression": "1"}), other)

    assert isinstance(outcome, Unplannable)
    assert "math@2.0.0" in outcome.message


async def test_without_executors_a_planned_input_is_refused_as_unavailable() -> None:
    with pytest.raises(PawlError) as caught:
        await (await planner_with()).build(make_request({"topic": "x"}))

    assert caught.value.code == "tool_unavailable"


async def test_limits_are_policy_also_without_a_plan() -> None:
    above = await refused(make_request({"topic": "x"}, asked=Limits(max_total_seconds=61)))
    wrong = await refused(make_request({}, asked=Limits(max_steps=0)))

    assert (above.code, above.errors[0].field) == ("limit_exceeded", "timeout_seconds")
    assert wrong.code == "validation_failed"


async def test_a_refused_plan_lists_its_problems() -> None:
    error = await refused(make_request({}, plan=make_plan(step(1, "nope"), step(3))))

    assert error.code == "plan_invalid"
    assert [e.code for e in error.errors] == ["plan_invalid", "unknown_tool"]


async def test_a_plan_of_null_is_a_plan_and_invalid() -> None:
    request = PlanRequest(
        task_input={"topic": "x"}, given=GivenPlan(value=None), asked=Limits(), tier=TIER
    )

    assert (await refused(request)).code == "plan_invalid"


async def test_test_mode_plans_offline() -> None:
    for task_input in OFFLINE_INPUTS:
        await frozen(make_request(task_input, test_mode=True))
