"""A frozen plan runs once more as it is, or a refusal names what stands against it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from libs.core.plan import Limits, Plan, Step
from libs.core.tool_spec import ToolSpec
from services.planner.model import Admission, FrozenPlanRequest
from services.planner.plan_admission import admit_plan
from tests.unit.planner.shipped import HTTP, LLM, MATH, TIER, make_snapshot, make_spec, make_tool

FITTING = Limits(
    max_steps=12,
    max_total_seconds=45,
    max_step_seconds=10,
    max_total_tokens=200_000,
    max_queue_seconds=3600,
)


def admitted(
    *tools: ToolSpec,
    offered: tuple[ToolSpec, ...] = (MATH, HTTP, LLM),
    gone: tuple[ToolSpec, ...] = (),
    limits: Limits = FITTING,
    **changes: Any,
) -> Admission:
    steps = tuple(
        Step(step_index=index, tool=tool.name, input={}) for index, tool in enumerate(tools, 1)
    )
    fields: dict[str, Any] = {"tier": TIER, "test_mode": False, "recorded": False}
    request = FrozenPlanRequest(
        plan=Plan(steps=steps, limits=limits),
        tool_set=tuple(sorted({make_tool(tool).ref for tool in tools})),
        **(fields | changes),
    )
    return admit_plan(request, catalog=make_snapshot(*offered, gone=gone), now=1.0)


def said(admission: Admission) -> list[tuple[str, str]]:
    return [(problem.code, problem.field) for problem in admission.problems]


def test_what_fits_is_admitted_and_calls_every_tool() -> None:
    assert admitted(MATH, HTTP, LLM) == Admission(recorded_tools=(), problems=())


def test_a_recorded_replay_does_not_call_what_reaches_outside() -> None:
    admission = admitted(MATH, HTTP, LLM, recorded=True)

    assert admission == Admission(recorded_tools=("http_request", "llm"), problems=())


def test_tools_that_are_gone_are_named_each_at_its_step() -> None:
    admission = admitted(MATH, HTTP, offered=(), gone=(MATH, HTTP))

    assert set(said(admission)) == {
        ("tool_unavailable", "plan.steps[0].tool"),
        ("tool_unavailable", "plan.steps[1].tool"),
    }
    assert "http_request@1.0.0" in admission.problems[0].detail


def test_a_recorded_replay_needs_no_tool_that_it_does_not_call() -> None:
    admission = admitted(MATH, HTTP, offered=(MATH,), gone=(HTTP,), recorded=True)

    assert admission == Admission(recorded_tools=("http_request",), problems=())


def test_a_recorded_replay_needs_the_tools_that_it_calls() -> None:
    admission = admitted(MATH, HTTP, offered=(), gone=(MATH, HTTP), recorded=True)

    assert said(admission) == [("tool_unavailable", "plan.steps[0].tool")]


def test_a_tool_that_the_catalogue_never_knew_is_not_taken_for_recorded() -> None:
    admission = admitted(HTTP, offered=(MATH,), recorded=True)

    assert said(admission) == [("tool_unavailable", "plan.steps[0].tool")]


@pytest.mark.parametrize(
    ("offered", "words"),
    [
        (make_spec("math", "2.0.0"), "; on offer is math@2.0.0"),
        (make_spec("math", input_schema={}), "; on offer is math@1.0.0 with another digest"),
    ],
)
def test_another_version_of_a_tool_is_another_tool(offered: ToolSpec, words: str) -> None:
    (problem,) = admitted(MATH, offered=(offered,)).problems

    assert problem.code == "tool_unavailable"
    assert problem.detail.endswith(words)


@pytest.mark.parametrize(
    ("limits", "field", "words"),
    [
        (
            Limits(max_steps=33),
            "max_steps",
            "33 is above what this tier allows now; the most is 32",
        ),
        (Limits(max_total_seconds=60.5), "max_total_seconds", "60.5 is above"),
        (Limits(max_total_tokens=200_001), "max_total_tokens", "200001 is above"),
        (Limits(max_queue_seconds=3601), "max_queue_seconds", "3601 is above"),
    ],
)
def test_limits_above_todays_tier_are_named(limits: Limits, field: str, words: str) -> None:
    problems = {problem.field: problem for problem in admitted(MATH, limits=limits).problems}

    problem = problems[f"plan.limits.{field}"]
    assert problem.code == "limit_exceeded"
    assert words in problem.detail


def test_the_tier_is_named() -> None:
    [problem] = admitted(MATH, limits=replace(FITTING, max_steps=33), tier_name="pro").problems

    assert problem.detail.startswith("33 is above what the tier pro allows now; the most is 32")


def test_a_plan_without_a_limit_does_not_fit_a_tier_with_one() -> None:
    admission = admitted(MATH, limits=Limits())

    assert {field.removeprefix("plan.limits.") for _, field in said(admission)} == {
        *("max_steps", "max_total_seconds", "max_total_tokens", "max_queue_seconds")
    }
    assert admission.problems[0].detail.startswith("no limit is above what this tier allows now")
    assert admitted(MATH, limits=Limits(), tier=Limits()).problems == ()


def test_a_test_key_replays_only_what_does_not_call_outside() -> None:
    live = admitted(MATH, HTTP, test_mode=True)
    recorded = admitted(MATH, HTTP, test_mode=True, recorded=True)

    assert [(problem.code, problem.fine) for problem in live.problems] == [
        ("plan_invalid", "not_in_test_mode")
    ]
    assert recorded.problems == ()
