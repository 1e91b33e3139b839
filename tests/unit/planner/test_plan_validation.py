from __future__ import annotations

import json
import time
from typing import Any

import pytest

from libs.core.plan import Limits
from services.planner.plan_validation import CheckedPlan, Rules, check_plan
from services.planner.problems import refusal
from tests.unit.planner.shipped import (
    EVERYTHING,
    HTTP,
    MATH,
    OFFLINE,
    make_plan,
    make_rules,
    make_snapshot,
    step,
)


def found(plan: object, rules: Rules | None = None) -> list[tuple[str, str]]:
    checked = check_plan(plan, rules=rules or make_rules())
    return [(problem.field, problem.fine or problem.code) for problem in checked.problems]


def top_code(plan: object, rules: Rules | None = None) -> str:
    refused = refusal(check_plan(plan, rules=rules or make_rules()).problems)
    return "accepted" if refused is None else refused.code


def test_a_sound_plan_is_read() -> None:
    plan = make_plan(
        step(1, expression="n*2", variables={"n": {"$ref": "input.n"}}),
        step(2, expression="a+1", variables={"a": {"$ref": "steps.1.output.result"}}),
        max_steps=4,
        max_total_seconds=20,
        max_step_seconds=2.5,
    )

    checked = check_plan(plan, rules=make_rules())

    assert checked.problems == ()
    assert [s.step_index for s in checked.steps] == [1, 2]
    assert checked.steps[0].input == plan["steps"][0]["input"]
    assert checked.limits == Limits(
        max_steps=4,
        max_total_seconds=20,
        max_step_seconds=2.5,
        max_total_tokens=200_000,
        max_queue_seconds=3600,
    )
    assert {(t.name, t.version, t.digest) for t in checked.tools} == {
        ("math", "1.0.0", MATH.digest())
    }


def test_limits_may_be_left_out() -> None:
    assert check_plan({"steps": [step(1)]}, rules=make_rules()).problems == ()


WRONG_COUNTS: list[object] = [-1, 0, 1.5, 1.0, "12", True, None, [], 2**60]
WRONG_SECONDS: list[object] = [-1, 0, 0.0, "45", False, None, {}, float("inf"), float("nan")]

BAD: list[tuple[str, object, list[tuple[str, str]]]] = [
    ("null", None, [("plan", "plan_invalid")]),
    ("a list", [], [("plan", "plan_invalid")]),
    ("text", "steps", [("plan", "plan_invalid")]),
    ("no steps", {}, [("plan.steps", "plan_invalid")]),
    ("empty steps", {"steps": []}, [("plan.steps", "plan_invalid")]),
    ("steps no list", {"steps": {"0": step(1)}}, [("plan.steps", "plan_invalid")]),
    ("key of the body", make_plan(step(1)) | {"retries": 3}, [("plan.retries", "unknown_field")]),
    ("step no object", make_plan(5), [("plan.steps[0]", "plan_invalid")]),
    ("null step", make_plan(None), [("plan.steps[0]", "plan_invalid")]),
    (
        "nothing in a step",
        make_plan({}),
        [
            ("plan.steps[0].step_index", "plan_invalid"),
            ("plan.steps[0].tool", "plan_invalid"),
            ("plan.steps[0].input", "plan_invalid"),
        ],
    ),
    (
        "keys of a step",
        make_plan(step(1) | {"parallel": True, "timeout": 9999}),
        [("plan.steps[0].parallel", "unknown_field"), ("plan.steps[0].timeout", "unknown_field")],
    ),
    ("gap", make_plan(step(1), step(3)), [("plan.steps[1].step_index", "plan_invalid")]),
    ("from zero", make_plan(step(0)), [("plan.steps[0].step_index", "plan_invalid")]),
    ("twice", make_plan(step(1), step(1)), [("plan.steps[1].step_index", "plan_invalid")]),
    (
        "swapped",
        make_plan(step(2), step(1)),
        [
            ("plan.steps[0].step_index", "plan_invalid"),
            ("plan.steps[1].step_index", "plan_invalid"),
        ],
    ),
    ("index as text", make_plan(step("1")), [("plan.steps[0].step_index", "plan_invalid")]),
    ("index as float", make_plan(step(1.0)), [("plan.steps[0].step_index", "plan_invalid")]),
    ("index true", make_plan(step(True)), [("plan.steps[0].step_index", "plan_invalid")]),
    ("index null", make_plan(step(None)), [("plan.steps[0].step_index", "plan_invalid")]),
    ("tool in capitals", make_plan(step(1, "Math")), [("plan.steps[0].tool", "unknown_tool")]),
    ("tool unknown", make_plan(step(1, "__import__")), [("plan.steps[0].tool", "unknown_tool")]),
    ("tool with blank", make_plan(step(1, "math ")), [("plan.steps[0].tool", "unknown_tool")]),
    ("tool versioned", make_plan(step(1, "math@1")), [("plan.steps[0].tool", "unknown_tool")]),
    ("tool null", make_plan(step(1, None)), [("plan.steps[0].tool", "unknown_tool")]),
    ("tool list", make_plan(step(1, ["math"])), [("plan.steps[0].tool", "unknown_tool")]),
    ("tool object", make_plan(step(1, {"n": 1})), [("plan.steps[0].tool", "unknown_tool")]),
    ("tool true", make_plan(step(1, True)), [("plan.steps[0].tool", "unknown_tool")]),
    (
        "input no object",
        make_plan({"step_index": 1, "tool": "math", "input": "1+1"}),
        [("plan.steps[0].input", "plan_invalid")],
    ),
    (
        "input null",
        make_plan({"step_index": 1, "tool": "math", "input": None}),
        [("plan.steps[0].input", "plan_invalid")],
    ),
    (
        "unknown key of an input",
        make_plan(step(1, expression="1", x=1)),
        [("plan.steps[0].input.x", "unknown_field")],
    ),
    (
        "missing key of an input",
        make_plan(step(1, variables={})),
        [("plan.steps[0].input.expression", "input_schema")],
    ),
    (
        "wrong type deep in an input",
        make_plan(step(1, expression="a", variables={"a": "5"})),
        [("plan.steps[0].input.variables.a", "input_schema")],
    ),
    (
        "limits null",
        {"steps": [step(1)], "limits": None},
        [("plan.limits", "plan_invalid")],
    ),
    ("limits list", {"steps": [step(1)], "limits": []}, [("plan.limits", "plan_invalid")]),
    ("unknown limit", make_plan(step(1), foo=1), [("plan.limits.foo", "unknown_field")]),
    *(
        (
            f"max_steps {value!r}",
            make_plan(step(1), max_steps=value),
            [("plan.limits.max_steps", "plan_invalid")],
        )
        for value in WRONG_COUNTS
    ),
    *(
        (
            f"max_total_seconds {value!r}",
            make_plan(step(1), max_total_seconds=value),
            [("plan.limits.max_total_seconds", "plan_invalid")],
        )
        for value in WRONG_SECONDS
    ),
    (
        "limits above the tier",
        make_plan(step(1), max_steps=33, max_total_seconds=60.5, max_step_seconds=61),
        [
            ("plan.limits.max_steps", "limit_exceeded"),
            ("plan.limits.max_total_seconds", "limit_exceeded"),
            ("plan.limits.max_step_seconds", "limit_exceeded"),
        ],
    ),
]


@pytest.mark.parametrize(("name", "plan", "expected"), BAD, ids=[case[0] for case in BAD])
def test_bad_plans_name_field_and_word(
    name: str, plan: object, expected: list[tuple[str, str]]
) -> None:
    del name
    assert found(plan) == expected


BAD_REFS: list[object] = [
    "steps.0.output",
    "env.DATABASE_URL",
    'steps[1].output|attr("x")',
    "steps.1.output.result*9**9",
    "steps.2.output.result",
    "steps.3.output.result",
    "steps.99.output",
    "steps.1.output.nothing",
    "steps.1.output.result.deeper",
    "steps.1.output.0",
    "input.absent",
    "input.topic.0",
    "input.list.2",
    "input.list.-1",
    "",
    None,
    7,
    ["steps.1.output"],
]


@pytest.mark.parametrize("ref", BAD_REFS, ids=repr)
def test_references_that_cannot_be_resolved_are_bad_refs(ref: object) -> None:
    plan = make_plan(step(1), step(2, expression={"$ref": ref}))

    assert found(plan) == [("plan.steps[1].input.expression", "bad_ref")]
    assert top_code(plan) == "bad_ref"


def test_a_reference_in_the_first_step_or_with_other_keys_is_bad() -> None:
    assert found(make_plan(step(1, expression={"$ref": "steps.1.output.result"}))) == [
        ("plan.steps[0].input.expression", "bad_ref")
    ]
    assert found(make_plan(step(1, expression={"$ref": "input.topic", "default": "1"}))) == [
        ("plan.steps[0].input.expression", "bad_ref")
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        # An object where a string is needed: what a reference brings in is judged when it is there.
        {"expression": {"$ref": "steps.1.output"}},
        {"expression": {"$ref": "input"}},
        {"expression": {"$ref": "input.n"}},
        {"expression": "a", "variables": {"$ref": "input"}},
        {"expression": "a", "variables": {"a": {"$ref": "input.list.1"}}},
        {"$ref": "steps.1.output"},
    ],
)
def test_a_reference_stands_for_any_value(arguments: dict[str, Any]) -> None:
    assert found(make_plan(step(1), step(2, **arguments))) == []


def test_what_does_not_depend_on_a_reference_is_still_checked() -> None:
    plan = make_plan(step(1, y={"$ref": "input.n"}, variables={"a": {"$ref": "input.n"}, "b": "x"}))

    assert sorted(found(plan)) == [
        ("plan.steps[0].input.expression", "input_schema"),
        ("plan.steps[0].input.variables.b", "input_schema"),
        ("plan.steps[0].input.y", "unknown_field"),
    ]


def test_literals_are_checked_as_what_they_stand_for() -> None:
    data = {"$literal": {"$ref": "no reference", "x": 1}}
    assert found(make_plan(step(1, "json_query", data=data, query="x"))) == []
    assert found(make_plan(step(1, expression={"$literal": 5}))) == [
        ("plan.steps[0].input.expression", "input_schema")
    ]


def test_outputs_of_unknown_or_open_tools_are_left_to_the_run() -> None:
    open_ended = make_plan(
        step(1, "json_query", data={}, query="x"),
        step(2, expression={"$ref": "steps.1.output.result.a.0.b"}),
    )
    unknown = make_plan(step(1, "nope"), step(2, expression={"$ref": "steps.1.output.a.b"}))

    assert found(open_ended) == []
    assert found(unknown) == [("plan.steps[0].tool", "unknown_tool")]


def test_too_many_references_in_one_input() -> None:
    plan = make_plan(step(1, "json_query", data=[{"$ref": "input"}] * 101, query="@"))

    assert found(plan) == [("plan.steps[0].input", "plan_invalid")]


def test_a_plan_longer_than_max_steps() -> None:
    thirteen = [step(index) for index in range(1, 14)]

    assert found(make_plan(*thirteen)) == [("plan.steps", "step_limit")]
    assert found(make_plan(*thirteen, max_steps=13)) == []
    assert found(make_plan(*thirteen), make_rules(asked=Limits(max_steps=13))) == []
    assert found(make_plan(*thirteen, max_steps=13), make_rules(asked=Limits(max_steps=12))) == [
        ("plan.steps", "step_limit")
    ]


def test_a_plan_that_is_too_long_says_what_the_tier_allows() -> None:
    plan = make_plan(*(step(index) for index in range(1, 14)))

    [problem] = check_plan(plan, rules=make_rules(tier_name="pro")).problems

    most = make_rules().tier.max_steps
    assert problem.detail == (
        f"the plan has 13 steps; max_steps is 12, and the tier pro allows {most}"
    )


def test_forty_steps_have_to_be_asked_for_on_any_tier() -> None:
    forty = make_plan(*(step(index) for index in range(1, 41)))
    enterprise = Limits(max_steps=1000, max_total_seconds=3600)

    assert top_code(forty, make_rules(tier=enterprise)) == "step_limit"
    assert top_code(forty, make_rules(tier=enterprise, asked=Limits(max_steps=40))) == "accepted"


def test_tools_that_nobody_offers_now() -> None:
    rules = make_rules(catalog=make_snapshot(*OFFLINE, gone=(HTTP,)))

    assert found(make_plan(step(1, "http_request", url="x")), rules) == [
        ("plan.steps[0].tool", "tool_unavailable")
    ]


def test_an_offer_lapses_by_time() -> None:
    rules = make_rules(now=2e9)

    assert top_code(make_plan(step(1)), rules) == "tool_unavailable"


@pytest.mark.parametrize("tool", ["http_request", "llm"])
def test_test_keys_get_no_network_and_no_model(tool: str) -> None:
    plan = make_plan(step(1, tool, url="x"), step(2))

    assert top_code(plan) == "accepted"
    assert found(plan, make_rules(test_mode=True)) == [("plan.steps[0].tool", "not_in_test_mode")]
    assert top_code(plan, make_rules(test_mode=True)) == "plan_invalid"


def test_asked_limits_are_checked_with_the_plan() -> None:
    rules = make_rules(asked=Limits(max_steps=0, max_total_seconds=61))

    refused = refusal(check_plan(make_plan(step(1)), rules=rules).problems)

    assert refused is not None
    assert refused.code == "validation_failed"
    assert ("timeout_seconds", "limit_exceeded") in [(e.field, e.code) for e in refused.errors]


MIXED = make_plan(
    step(1, "nope", x=1),
    step(5, expression={"$ref": "env.X"}),
    step(3) | {"retry": 1},
    step(4, expression="1", y=1),
    foo=1,
    max_total_seconds=1000,
)


def test_all_problems_are_collected_and_the_word_at_the_top_follows_the_precedence() -> None:
    refused = refusal(check_plan(MIXED, rules=make_rules()).problems)

    assert refused is not None
    assert refused.code == "unknown_field"
    assert refused.message == (
        "plan.steps[2].retry: not a key here; allowed are step_index, tool, input "
        "(and 6 more problems)"
    )
    assert [(e.field, e.code) for e in refused.errors] == [
        ("plan.steps[2].retry", "unknown_field"),
        ("plan.steps[1].step_index", "plan_invalid"),
        ("plan.steps[3].input.y", "unknown_field"),
        ("plan.limits.foo", "unknown_field"),
        ("plan.limits.max_total_seconds", "limit_exceeded"),
        ("plan.steps[0].tool", "unknown_tool"),
        ("plan.steps[1].input.expression", "bad_ref"),
    ]
    assert refused.errors[0].pointer == "/plan/steps/2/retry"


def test_a_refusal_is_small_whatever_was_sent() -> None:
    monster = {"k" * 100_000: 1}
    plan = {
        "steps": [
            {"step_index": i, "tool": "é" * 100_000, "input": monster, "ü" * 100_000: 1}
            for i in range(200)
        ],
        "limits": monster,
    }

    refused = refusal(check_plan(plan, rules=make_rules()).problems)

    assert refused is not None
    size = len(json.dumps([refused.message, *((e.field, e.detail) for e in refused.errors)]))
    assert 1 <= len(refused.errors) <= 20
    assert size < 8000


def test_a_plan_of_thousands_of_steps_is_judged_in_bounded_time() -> None:
    plan = make_plan(*(step(index, expression={"$ref": "env"}) for index in range(1, 2501)))
    started = time.perf_counter()

    assert top_code(plan) == "step_limit"

    assert time.perf_counter() - started < 1.0


def test_the_given_plan_is_not_changed() -> None:
    plan = make_plan(step(1, "json_query", data={"$literal": {"a": 1}}, query="@"))
    before = json.dumps(plan)

    checked: CheckedPlan = check_plan(plan, rules=make_rules(catalog=make_snapshot(*EVERYTHING)))

    assert json.dumps(plan) == before
    assert checked.steps[0].input == plan["steps"][0]["input"]
