"""The rules around a step: values, schemas, bounds."""

from __future__ import annotations

import math

import pytest

from libs.core.canonical import Json, canonical
from libs.core.errors import FailureCode, StepFailed
from libs.core.json_measure import Unfit, measure
from libs.core.json_schema import compile_schema
from libs.core.plan import Limits
from libs.core.references import MAX_RESOLVED_BYTES
from services.executor.bounds import STEP_TIMEOUT, TASK_TIMEOUT, Bounds, bounds_of, check_steps
from services.executor.step_validation import (
    MAX_OUTPUT_BYTES,
    MAX_OUTPUT_DEPTH,
    SchemaMismatch,
    output_text,
    resolve_step_input,
    validate_step_input,
    validate_step_output,
)
from tests.executor_world import FakeClock, make_assignment

SCHEMA = compile_schema(
    {
        "type": "object",
        "properties": {"n": {"type": "number"}},
        "required": ["n"],
        "additionalProperties": False,
    }
)


def nested(depth: int) -> Json:
    value: Json = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, 1, -2.5, "", "é", "a\n", [], {}, [1], [1, 2, 3], {"a": 1}, {"a": {}, "b": [[]]}],
)
def test_measure_is_a_lower_bound_of_canonical_bytes(value: Json) -> None:
    assert measure(value, max_bytes=100, max_depth=10) <= len(canonical(value))


def test_measure_is_exact_for_plain_structure() -> None:
    assert measure({"a": [1, 2], "b": ""}, max_bytes=100, max_depth=10) == 18


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("x" * 99, "SIZE"),
        ([0] * 50, "SIZE"),
        (nested(11), "DEPTH"),
        (math.nan, "NUMBER"),
        ([math.inf], "NUMBER"),
        (2**53, "NUMBER"),
        ({"a": -(2**53)}, "NUMBER"),
        ({1: 2}, "TYPE"),
        (b"x", "TYPE"),
        ([object()], "TYPE"),
    ],
)
def test_measure_refuses(value: Json, reason: str) -> None:
    with pytest.raises(Unfit) as unfit:
        measure(value, max_bytes=100, max_depth=10)

    assert unfit.value.reason == reason


def test_measure_ends_early_on_values_that_are_large_only_when_written() -> None:
    value: Json = "x"
    for _ in range(40):
        value = [value, value]

    with pytest.raises(Unfit) as unfit:
        measure(value, max_bytes=MAX_RESOLVED_BYTES, max_depth=64)

    assert unfit.value.reason == "SIZE"


def test_resolve_step_input_follows_references() -> None:
    planned: Json = {"a": {"$ref": "steps.1.output.x"}, "b": {"$literal": {"$ref": "kept"}}}

    resolved = resolve_step_input(planned, task_input={}, outputs={1: {"x": [1]}})

    assert resolved == {"a": [1], "b": {"$ref": "kept"}}


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("steps.1.output.missing", "REF_MISSING"),
        ("steps.2.output", "REF_MISSING"),
        ("input.topic.deep", "REF_TYPE"),
        ("nonsense", "REF_TYPE"),
    ],
)
def test_resolve_step_input_lists_the_broken_reference(ref: str, reason: str) -> None:
    planned: Json = {"ok": {"$ref": "input.topic"}, "variables": {"a": {"$ref": ref}}}

    with pytest.raises(SchemaMismatch) as failed:
        resolve_step_input(planned, task_input={"topic": "t"}, outputs={1: {}})

    assert (failed.value.code, failed.value.reason) == (FailureCode.INPUT_SCHEMA, reason)
    (listed,) = failed.value.schema_failures
    assert (listed.path, listed.where) == ("variables.a", "input")


def test_resolve_step_input_bounds_what_references_multiply() -> None:
    planned: Json = [{"$ref": "input.big"}] * 100

    with pytest.raises(SchemaMismatch) as failed:
        resolve_step_input(planned, task_input={"big": "x" * 100_000}, outputs={})

    assert (failed.value.code, failed.value.reason) == (FailureCode.INPUT_SCHEMA, "INPUT_LIMIT")


def test_validate_step_input_lists_violations() -> None:
    with pytest.raises(SchemaMismatch) as failed:
        validate_step_input({"n": "x", "m": 1}, schema=SCHEMA, tool="t@1")

    assert failed.value.code == FailureCode.INPUT_SCHEMA
    assert sorted(f.path for f in failed.value.schema_failures) == ["m", "n"]
    assert {f.where for f in failed.value.schema_failures} == {"input"}


def test_validate_step_output_lists_violations() -> None:
    with pytest.raises(SchemaMismatch) as failed:
        validate_step_output({}, schema=SCHEMA, tool="t@1")

    assert failed.value.code == FailureCode.OUTPUT_SCHEMA
    assert [(f.path, f.where) for f in failed.value.schema_failures] == [("n", "output")]


def test_output_text_is_canonical() -> None:
    assert output_text({"b": 1.0, "a": "é"}) == '{"a":"é","b":1}'


@pytest.mark.parametrize(
    ("value", "code", "reason"),
    [
        ("x" * MAX_OUTPUT_BYTES, FailureCode.OUTPUT_LIMIT, "OUTPUT_TOO_LARGE"),
        ("é" * (MAX_OUTPUT_BYTES // 2), FailureCode.OUTPUT_LIMIT, "OUTPUT_TOO_LARGE"),
        ("\x01" * (MAX_OUTPUT_BYTES // 6 + 1), FailureCode.OUTPUT_LIMIT, "OUTPUT_TOO_LARGE"),
        (nested(MAX_OUTPUT_DEPTH + 1), FailureCode.OUTPUT_LIMIT, "OUTPUT_TOO_DEEP"),
        (math.nan, FailureCode.OUTPUT_SCHEMA, "OUTPUT_NUMBER"),
        ({"a": 2**60}, FailureCode.OUTPUT_SCHEMA, "OUTPUT_NUMBER"),
        ({"a": {1, 2}}, FailureCode.OUTPUT_SCHEMA, "OUTPUT_TYPE"),
        ("\ud800", FailureCode.OUTPUT_SCHEMA, "OUTPUT_TYPE"),
        ({"\ud800": 1}, FailureCode.OUTPUT_SCHEMA, "OUTPUT_TYPE"),
    ],
)
def test_output_text_refuses(value: Json, code: FailureCode, reason: str) -> None:
    with pytest.raises(StepFailed) as failed:
        output_text(value)

    assert (failed.value.code, failed.value.reason) == (code, reason)


def test_output_text_takes_the_largest_allowed() -> None:
    assert len(output_text("x" * (MAX_OUTPUT_BYTES - 2))) == MAX_OUTPUT_BYTES
    output_text(nested(MAX_OUTPUT_DEPTH))


@pytest.mark.parametrize(
    ("max_step_seconds", "deadline", "seconds", "word"),
    [
        (None, None, None, STEP_TIMEOUT),
        (10.0, None, 10.0, STEP_TIMEOUT),
        (None, 105.0, 5.0, TASK_TIMEOUT),
        (10.0, 105.0, 5.0, TASK_TIMEOUT),
        (3.0, 105.0, 3.0, STEP_TIMEOUT),
        (3.0, 90.0, 0.0, TASK_TIMEOUT),
    ],
)
def test_allowance_is_the_nearer_bound(
    max_step_seconds: float | None, deadline: float | None, seconds: float | None, word: str
) -> None:
    allowance = Bounds(max_step_seconds=max_step_seconds, deadline=deadline).allowance(100.0)

    assert (allowance.seconds, allowance.word) == (seconds, word)


def test_bounds_count_from_receipt() -> None:
    clock = FakeClock()
    bounds = bounds_of(make_assignment(("math", {}), seconds_left=30, clock=clock))

    assert not bounds.is_over(clock.seconds + 29.9)
    assert bounds.is_over(clock.seconds + 30)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (STEP_TIMEOUT, "STEP_TIMEOUT: the step took longer than 2.5 s"),
        (TASK_TIMEOUT, "TASK_TIMEOUT: the task took longer than 45 s"),
    ],
)
def test_timed_out_says_which_bound(word: str, said: str) -> None:
    bounds = Bounds(max_step_seconds=2.5, deadline=0.0, max_total_seconds=45.0)

    failed = bounds.timed_out(word)

    assert (failed.code, failed.message) == (FailureCode.TIMEOUT, said)


def test_check_steps_refuses_a_plan_over_its_own_limit() -> None:
    assignment = make_assignment(("math", {}), ("math", {}), limits=Limits(max_steps=1))

    with pytest.raises(StepFailed) as failed:
        check_steps(assignment.plan)

    assert failed.value.code == FailureCode.STEP_LIMIT
