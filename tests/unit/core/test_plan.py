"""Plans and limits in the shape that is shown, stored and hashed."""

from __future__ import annotations

from libs.core.canonical import canonical
from libs.core.plan import LIMIT_NAMES, Limits, Plan, Step, plan_from_json

_PLAN = Plan(
    steps=(
        Step(step_index=1, tool="math", input={"expression": "1+1"}),
        Step(step_index=2, tool="wait", input={"seconds": 0.5}),
    ),
    limits=Limits(max_steps=12, max_total_seconds=45.0, max_step_seconds=10),
)


def test_plan_json_has_steps_and_limits_only() -> None:
    assert _PLAN.as_json() == {
        "steps": [
            {"step_index": 1, "tool": "math", "input": {"expression": "1+1"}},
            {"step_index": 2, "tool": "wait", "input": {"seconds": 0.5}},
        ],
        "limits": {"max_steps": 12, "max_total_seconds": 45, "max_step_seconds": 10},
    }


def test_unlimited_limits_are_left_out() -> None:
    assert Limits().as_json() == {}
    assert Limits(max_total_tokens=0).as_json() == {"max_total_tokens": 0}


def test_whole_seconds_are_written_as_integers() -> None:
    written = Limits(max_total_seconds=45.0, max_step_seconds=0.5).as_json()

    assert [type(written[name]) for name in written] == [int, float]


def test_limit_names_are_the_fields() -> None:
    assert tuple(Limits.__dataclass_fields__) == LIMIT_NAMES


def test_a_plan_read_back_has_the_same_canonical_form() -> None:
    again = plan_from_json(_PLAN.as_json())

    assert canonical(again.as_json()) == canonical(_PLAN.as_json())
    assert again.steps == _PLAN.steps
