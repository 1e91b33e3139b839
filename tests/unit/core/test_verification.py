"""Every honest trace holds; every change of a trace is found where it was made."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.recorded_trace import NotATrace
from libs.core.verification import verify
from tests.recorded_traces import MATH, make_trace, make_unplanned_trace, rehash

Trace = dict[str, Any]
Change = Callable[[Trace], object]


def _first_difference(trace: Trace) -> tuple[str, str]:
    first = verify(trace).first_difference
    return ("", "") if first is None else (first.subject, " | ".join(first.differences))


def _block(trace: Trace) -> Trace:
    block: Trace = trace["verification"]
    return block


def _step(trace: Trace, index: int) -> Trace:
    step: Trace = _block(trace)["steps"][index - 1]
    return step


@pytest.mark.parametrize(
    "trace",
    [
        make_trace(),
        make_trace(state="failed", failed_step=2, failure_code="TOOL_ERROR"),
        make_trace(state="failed", open_step=2, failure_code="EXECUTOR_LOST"),
        make_trace(state="cancelled", open_step=1),
        make_trace(state="cancelled", failure_code="CANCELLED"),
        make_trace(state="running", open_step=3),
        make_unplanned_trace(),
    ],
)
def test_an_honest_trace_holds(trace: Trace) -> None:
    report = verify(trace)

    assert report.holds, report
    assert verify(_block(trace)).holds, "the block alone is enough"


def test_the_report_names_every_subject_in_order() -> None:
    report = verify(make_trace())

    assert [check.subject for check in report.checks] == [
        "tool set",
        "plan",
        "step 1 (math)",
        "step 2 (math)",
        "step 3 (json_query)",
        "task",
        "summary",
    ]
    assert report.checks[4].recorded == make_trace()["summary"]["step_hashes"][2]


def test_spelling_of_numbers_and_order_of_keys_do_not_matter() -> None:
    trace = make_trace()
    _step(trace, 1)["output"] = {"result": 2.0}
    trace["verification"] = dict(reversed(_block(trace).items()))

    assert verify(trace).holds


def test_whole_numbers_beyond_the_safe_integers_do_not_matter() -> None:
    trace = make_trace()
    _step(trace, 1)["output"] = {"result": 10**20}
    _step(trace, 2)["resolved_input"] = {"expression": "a*2", "variables": {"a": 10**20}}
    for index in (1, 2):
        shown = trace["steps"][index - 1]
        shown |= {"input": _step(trace, index)["resolved_input"]}
        shown |= {"output": _step(trace, index)["output"]}
    rehash(trace)

    report = verify(json.loads(json.dumps(trace)))

    assert report.holds, report.first_difference


_CHANGES: list[tuple[str, Change, str, str]] = [
    ("recipe", lambda t: _block(t).update(recipe="pawl:v2"), "recipe", "pawl:v2"),
    ("input", lambda t: _block(t).update(task_input={"topic": "x"}), "plan", "plan hash differs"),
    (
        "planned input",
        lambda t: _block(t)["plan"]["steps"][0].update(input={"expression": "1+2"}),
        "plan",
        "plan hash differs",
    ),
    ("limit", lambda t: _block(t)["plan"]["limits"].update(max_steps=13), "plan", "hash differs"),
    ("plan member", lambda t: _block(t)["plan"].update(note="x"), "plan", "no plan has"),
    (
        "planned step member",
        lambda t: _block(t)["plan"]["steps"][1].update(note="x"),
        "plan",
        "no step has",
    ),
    ("plan hash", lambda t: _block(t).update(plan_hash="00" * 32), "plan", "plan hash differs"),
    ("no plan", lambda t: _block(t).update(plan=None), "tool set", "does not call"),
    (
        "tool set digest",
        lambda t: _block(t)["tool_set"].__setitem__(1, ["math", "1", "ee" * 32]),
        "tool set",
        "another math was planned and ran",
    ),
    ("tool set order", lambda t: _block(t)["tool_set"].reverse(), "tool set", "not sorted"),
    ("tool missing", lambda t: _block(t)["tool_set"].pop(), "tool set", "lacks math"),
    (
        "foreign tool",
        lambda t: _block(t)["tool_set"].append(["wait", "1", "ff"]),
        "tool set",
        "does not call",
    ),
    (
        "tool twice",
        lambda t: _block(t)["tool_set"].append(["math", "2", "ff"]),
        "tool set",
        "two versions",
    ),
    (
        "output",
        lambda t: _step(t, 2).update(output={"result": 5}),
        "step 2 (math)",
        "step hash differs",
    ),
    (
        "resolved input",
        lambda t: _step(t, 3).update(resolved_input={"query": "r", "data": {"r": 5}}),
        "step 3 (json_query)",
        "step hash differs",
    ),
    ("step hash", lambda t: _step(t, 1).update(step_hash="11" * 32), "step 1 (math)", "differs"),
    ("no step hash", lambda t: _step(t, 2).update(step_hash=None), "step 2 (math)", "none"),
    (
        "version",
        lambda t: _step(t, 2).update(tool_version="2"),
        "step 2 (math)",
        "tool set has no such",
    ),
    ("digest", lambda t: _step(t, 2).update(tool_digest="ee"), "step 2 (math)", "has no such"),
    ("tool", lambda t: _step(t, 2).update(tool="json_query"), "step 2 (math)", "plan says math"),
    (
        "status",
        lambda t: _step(t, 2).update(status="failed", output=None, failure_code="TIMEOUT"),
        "step 2 (math)",
        "yet a later step",
    ),
    (
        "failure code alone",
        lambda t: _step(t, 2).update(failure_code="TIMEOUT"),
        "step 2 (math)",
        "succeeded with failure code",
    ),
    ("unfinished", lambda t: _step(t, 3).update(status="running"), "step 3 (json_query)", "never"),
    ("order", lambda t: _block(t)["steps"].reverse(), "step 1 (math)", "out of order"),
    ("missing step", lambda t: _block(t)["steps"].pop(1), "step 2 (math)", "missing"),
    ("missing last step", lambda t: _block(t)["steps"].pop(), "step 3 (json_query)", "missing"),
    (
        "extra step",
        lambda t: _block(t)["steps"].append(_step(t, 3) | {"step_index": 4}),
        "step 4",
        "only 3 steps",
    ),
    ("task hash", lambda t: _block(t).update(task_hash="22" * 32), "task", "task hash differs"),
    ("no task hash", lambda t: _block(t).update(task_hash=None), "task", "recorded none"),
    ("not ended", lambda t: _block(t).update(state="running"), "task", "has not ended"),
    (
        "failure code of the task",
        lambda t: _block(t).update(failure_code="TIMEOUT"),
        "task",
        "succeeded and yet",
    ),
    ("shown output", lambda t: t["steps"][1].update(output={}), "step 2 (math)", "shows"),
    ("shown input", lambda t: t["steps"][1].update(input={}), "step 2 (math)", "another input"),
    ("shown hash", lambda t: t["steps"][1].update(step_hash="0"), "step 2 (math)", "another hash"),
    ("shown status", lambda t: t["steps"][1].update(status="x"), "step 2 (math)", "says x"),
    ("shown tool", lambda t: t["steps"][1].update(tool_name="wait"), "step 2 (math)", "says wait"),
    ("shown step gone", lambda t: t["steps"].pop(1), "step 2 (math)", "does not have it"),
    ("shown step more", lambda t: t["steps"].append(t["steps"][0]), "summary", "list of steps"),
    ("summary", lambda t: t["summary"].update(task_hash="33" * 32), "summary", "summary.task_hash"),
    ("summary steps", lambda t: t["summary"]["step_hashes"].pop(), "summary", "step_hashes"),
    ("shown state", lambda t: t.update(status="failed"), "summary", "status is failed"),
    (
        "shown failure",
        lambda t: t.update(failure={"code": "TIMEOUT"}),
        "summary",
        "failure.code is TIMEOUT",
    ),
]


@pytest.mark.parametrize(
    ("change", "subject", "words"), [c[1:] for c in _CHANGES], ids=[c[0] for c in _CHANGES]
)
def test_a_changed_trace_is_found_where_it_was_changed(
    change: Change, subject: str, words: str
) -> None:
    trace = make_trace()
    change(trace)

    found = _first_difference(trace)

    assert (found[0], words in found[1]) == (subject, True), found


def test_a_forged_step_is_found_at_the_next_when_only_its_own_hash_was_mended() -> None:
    trace = make_trace()
    forged = copy.deepcopy(trace)
    _step(forged, 1)["output"] = {"result": 3}
    rehash(forged)
    _block(trace)["steps"][0] = _step(forged, 1)
    trace["steps"][0] = forged["steps"][0] | {"output": {"result": 3}}

    assert _first_difference(trace)[0] == "step 2 (math)"


def test_a_step_after_a_failure_is_a_contradiction_even_when_hashed_anew() -> None:
    trace = make_trace()
    _step(trace, 1).update(status="failed", output=None, failure_code="TOOL_ERROR")
    trace["steps"][0].update(status="failed", output=None)
    _block(trace).update(state="failed", failure_code="TOOL_ERROR")
    trace.update(status="failed", failure={"code": "TOOL_ERROR"})
    rehash(trace)

    assert _first_difference(trace) == (
        "step 1 (math)",
        "it failed, yet a later step is recorded",
    )


def test_a_trace_hashed_anew_is_found_by_the_hash_kept_elsewhere() -> None:
    trace = make_trace()
    kept = trace["summary"]["task_hash"]
    _step(trace, 3)["output"] = trace["steps"][2]["output"] = {"result": 40}
    rehash(trace, from_step=3)

    assert verify(trace).holds
    assert not verify(trace, expected_task_hash=kept).holds


def test_an_input_that_the_plan_does_not_give_is_found_even_when_hashed_anew() -> None:
    trace = make_trace()
    forged = {"expression": "a*2", "variables": {"a": 20}}
    _step(trace, 2)["resolved_input"] = trace["steps"][1]["input"] = forged
    rehash(trace, from_step=2)

    assert _first_difference(trace) == (
        "step 2 (math)",
        "its input is not what the plan, the task input and the earlier outputs give",
    )


def test_an_output_that_a_later_step_used_is_found_there_even_when_hashed_anew() -> None:
    trace = make_trace()
    _step(trace, 1)["output"] = trace["steps"][0]["output"] = {"result": 3}
    rehash(trace)

    assert _first_difference(trace)[0] == "step 2 (math)"


def test_a_step_whose_reference_had_no_target_holds_with_the_input_as_written() -> None:
    trace = make_trace(state="failed", failed_step=2, failure_code="INPUT_SCHEMA")
    _step(trace, 1)["output"] = trace["steps"][0]["output"] = {"other": 2}
    written = _block(trace)["plan"]["steps"][1]["input"]
    _step(trace, 2)["resolved_input"] = trace["steps"][1]["input"] = written
    rehash(trace)

    assert verify(trace).holds, verify(trace).first_difference


def test_a_step_that_ran_though_its_reference_had_no_target_is_found() -> None:
    trace = make_trace()
    _step(trace, 1)["output"] = trace["steps"][0]["output"] = {"other": 2}
    rehash(trace)

    assert "yet it was called" in _first_difference(trace)[1]


def test_an_unfinished_step_with_a_hash_is_a_contradiction() -> None:
    trace = make_trace(state="failed", open_step=2, failure_code="EXECUTOR_LOST")
    _step(trace, 2)["step_hash"] = "44" * 32

    assert _first_difference(trace)[0] == "step 2 (math)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("verification"), "the file has no 'verification'"),
        (lambda t: t.update(verification=[]), "verification is not a JSON object"),
        (lambda t: t.pop("summary"), "the trace has no 'summary'"),
        (lambda t: t.pop("failure"), "the trace has no 'failure'"),
        (lambda t: t.update(failure="x"), "failure is not a JSON object"),
        (lambda t: t["summary"].update(step_hashes=[1]), "not an array of strings"),
        (lambda t: t["steps"][0].update(step_index="1"), "'step_index' is not an integer"),
        (lambda t: t.update(steps={}), "'steps' is not an array"),
        (lambda t: _block(t).update(state="done"), "no such state"),
        (lambda t: _block(t).update(plan=[]), "verification.plan is not a JSON object"),
        (lambda t: _block(t)["plan"].pop("limits"), "has no 'limits'"),
        (lambda t: _block(t)["plan"]["steps"][0].pop("tool"), "has no 'tool'"),
        (lambda t: _block(t)["plan"]["steps"][0].update(step_index=True), "not an integer"),
        (lambda t: _block(t).update(tool_set=[["math", 1, "x"]]), "is not [name, version, digest]"),
        (lambda t: _block(t).update(task_hash=7), "'task_hash' is not a string"),
        (lambda t: _step(t, 1).update(status="x" * 99), "no such status"),
        (lambda t: _step(t, 1).pop("output"), "has no 'output'"),
        (lambda t: _step(t, 1).update(output=float("nan")), "no canonical form"),
        (lambda t: _step(t, 1).update(output="\ud800"), "no canonical form"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_place(change: Change, words: str) -> None:
    trace = make_trace()
    change(trace)

    with pytest.raises(NotATrace) as refused:
        verify(trace)

    assert words in str(refused.value)


@pytest.mark.parametrize("value", [None, [], "x", 1, {}, {"verification": {}}, {"recipe": 1}])
def test_other_json_is_refused(value: object) -> None:
    with pytest.raises(NotATrace):
        verify(value)


_OTHERS: tuple[Any, ...] = (0, -1, "x", None, [], {}, MATH.digest)
_HASHED = json.dumps(make_trace()["verification"])


@given(st.data())
def test_no_value_of_the_block_can_be_replaced_unnoticed(data: st.DataObject) -> None:
    """Any leaf that is hashed, replaced by another value, gives a difference or is refused."""
    trace = {"verification": json.loads(_HASHED)} | {
        name: value for name, value in make_trace().items() if name != "verification"
    }
    holder, key = data.draw(st.sampled_from(list(_leaves(trace["verification"]))))
    other = data.draw(st.sampled_from([value for value in _OTHERS if value != holder[key]]))
    holder[key] = other

    try:
        report = verify(trace)
    except NotATrace:
        return
    assert not report.holds


def _leaves(value: Any) -> list[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, Any]] = []
    for key, item in items:
        found += _leaves(item) if isinstance(item, dict | list) and item else [(value, key)]
    return found


def test_references_that_multiply_a_large_value_are_a_difference_found_soon() -> None:
    trace = make_trace()
    block = _block(trace)
    block["task_input"] = {"big": ["x" * 1000] * 1000}
    block["plan"]["steps"][0]["input"] = [{"$ref": "input.big"}] * 100_000

    assert "with its references is too large" in " ".join(verify(trace).checks[2].differences)
