"""Whatever is changed in a run, the comparison names the first step and field that it changed."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from libs.core.canonical import Json, canonical_text, same_json
from libs.core.comparison import (
    MAX_SHOWN_BYTES,
    Comparison,
    Divergence,
    Field,
    compare,
    compare_blocks,
    first_step_apart,
    outline_of,
    shown_values,
)
from libs.core.recorded_trace import RecordedBlock, read_trace
from libs.core.verification import verify
from tests.recorded_traces import make_trace, make_unplanned_trace, rehash

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(-1e9, 1e9)
    | st.text("aé{"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=6,
)
ENDED: dict[str, dict[str, Any]] = {
    "succeeded": make_trace(),
    "failed": make_trace(state="failed", failed_step=2, failure_code="TOOL_ERROR"),
    "lost": make_trace(state="failed", open_step=2, failure_code="EXECUTOR_LOST"),
    "cancelled": make_trace(state="cancelled", open_step=1),
    "unplanned": make_unplanned_trace(),
}


def block_of(trace: dict[str, Any]) -> RecordedBlock:
    return read_trace(trace).block


def compared(original: dict[str, Any], replayed: dict[str, Any]) -> Comparison:
    return compare_blocks(block_of(original), block_of(replayed))


def place_of(comparison: Comparison) -> tuple[int | None, str] | None:
    first = comparison.first_divergence
    return None if first is None else (first.step_index, first.field.value)


@pytest.mark.parametrize("trace", ENDED.values(), ids=ENDED)
def test_a_run_matches_its_like(trace: dict[str, Any]) -> None:
    assert compared(trace, copy.deepcopy(trace)) == Comparison(matches=True, first_divergence=None)


@pytest.mark.parametrize("one", ENDED)
@pytest.mark.parametrize("other", ENDED)
def test_two_ended_runs_match_exactly_when_their_task_hashes_do(one: str, other: str) -> None:
    comparison = compared(ENDED[one], ENDED[other])

    same = ENDED[one]["summary"]["task_hash"] == ENDED[other]["summary"]["task_hash"]
    assert comparison.matches is same
    assert (comparison.first_divergence is None) is same


@given(step=st.integers(1, 3), member=st.sampled_from(["resolved_input", "output"]), value=JSON)
def test_a_changed_value_is_found_in_its_step(step: int, member: str, value: Json) -> None:
    trace = make_trace()
    changed = copy.deepcopy(trace)
    before = changed["verification"]["steps"][step - 1][member]
    assume(not same_json(before, value))
    changed["verification"]["steps"][step - 1][member] = value
    rehash(changed, from_step=step)

    comparison = compared(trace, changed)

    assert comparison.matches is False
    assert comparison.first_divergence == Divergence(
        step_index=step, field=Field(member), original=before, replayed=value
    )


@given(
    first=st.integers(1, 3),
    change=st.sampled_from(
        [
            ("tool", {"tool_version": "2"}),
            ("status", {"status": "failed", "output": None, "failure_code": "TOOL_ERROR"}),
        ]
    ),
    later=st.booleans(),
)
def test_the_first_of_several_changes_is_named(
    first: int, change: tuple[str, dict[str, Any]], later: bool
) -> None:
    trace = make_trace()
    changed = copy.deepcopy(trace)
    field, members = change
    changed["verification"]["steps"][first - 1] |= members
    if later:
        changed["verification"]["steps"][-1] |= {"tool_version": "9"} if first < 3 else {}
    rehash(changed, from_step=first)

    assert place_of(compared(trace, changed)) == (first, field)


def test_another_failure_code_is_named_in_its_step() -> None:
    one = make_trace(state="failed", failed_step=2, failure_code="TOOL_ERROR")
    other = make_trace(state="failed", failed_step=2, failure_code="TIMEOUT")

    assert compared(one, other).first_divergence == Divergence(
        step_index=2, field=Field.FAILURE_CODE, original="TOOL_ERROR", replayed="TIMEOUT"
    )


@pytest.mark.parametrize(
    ("one", "other", "place", "values"),
    [
        ("succeeded", "failed", (2, "status"), ("succeeded", "failed")),
        ("succeeded", "lost", (2, "status"), ("succeeded", "interrupted")),
        ("lost", "succeeded", (2, "status"), ("interrupted", "succeeded")),
        ("succeeded", "cancelled", (1, "status"), ("succeeded", "interrupted")),
        ("lost", "cancelled", (1, "status"), ("succeeded", "interrupted")),
        ("unplanned", "succeeded", (None, "plan_hash"), None),
    ],
)
def test_ends_of_different_kinds_part_where_they_part(
    one: str, other: str, place: tuple[int | None, str], values: tuple[str, str] | None
) -> None:
    comparison = compared(ENDED[one], ENDED[other])

    assert place_of(comparison) == place
    first = comparison.first_divergence
    assert first is not None
    assert values in {None, (first.original, first.replayed)}


def test_a_step_that_only_one_began_has_no_status_in_the_other() -> None:
    longer = make_trace()
    shorter = block_of(longer)
    shorter = replace(shorter, steps=shorter.steps[:2], failure_code="TIMEOUT")

    forward = compare_blocks(block_of(longer), shorter).first_divergence
    backward = compare_blocks(shorter, block_of(longer)).first_divergence

    assert forward == Divergence(
        step_index=3, field=Field.STATUS, original="succeeded", replayed=None
    )
    assert backward == Divergence(
        step_index=3, field=Field.STATUS, original=None, replayed="succeeded"
    )


def test_equal_steps_with_another_end_differ_in_the_end() -> None:
    succeeded, cancelled = make_trace(), make_trace(state="cancelled")
    one = make_trace(state="failed", open_step=2, failure_code="EXECUTOR_LOST")
    other = make_trace(state="failed", open_step=2, failure_code="TIMEOUT")

    assert place_of(compared(succeeded, cancelled)) == (None, "state")
    assert place_of(compared(one, other)) == (None, "failure_code")


def test_a_running_replay_is_open_until_something_differs() -> None:
    original, running = make_trace(), make_trace(state="running", open_step=3)
    changed = copy.deepcopy(running)
    changed["verification"]["steps"][0]["output"] = {"result": 3}
    rehash(changed)

    assert compared(original, running) == Comparison(matches=None, first_divergence=None)
    assert place_of(compared(original, changed)) == (1, "output")
    assert compared(original, changed).matches is False


def test_a_running_replay_that_goes_beyond_its_original_differs_there() -> None:
    original = make_trace(state="failed", failed_step=1, failure_code="TIMEOUT")
    interrupted = make_trace(state="failed", open_step=1, failure_code="EXECUTOR_LOST")
    running = make_trace(state="running", open_step=2)

    assert place_of(compared(original, running)) == (1, "status")
    assert place_of(compared(interrupted, running)) == (1, "status")


def test_hashes_that_differ_over_the_same_content_are_said_to() -> None:
    outline = outline_of(block_of(make_trace()))
    forged = replace(outline, step_hashes=("0" * 64, *outline.step_hashes[1:]))
    step = block_of(make_trace()).steps[0]

    assert first_step_apart(outline, forged) == 1
    first = compare(outline, forged, step=(step, step)).first_divergence
    assert first is not None
    assert (first.field, first.replayed) == (Field.STEP_HASH, "0" * 64)


def test_numbers_are_compared_as_they_are_hashed() -> None:
    original = make_trace()
    respelled = json.loads(json.dumps(original).replace('"result": 4', '"result": 4.0'))

    assert compared(original, respelled).matches is True
    assert verify(respelled).holds


@given(value=JSON)
def test_small_values_are_shown_as_they_are(value: Json) -> None:
    assume(len(canonical_text(value).encode()) <= MAX_SHOWN_BYTES)

    assert shown_values(_output(value, None)) == (value, None)


@pytest.mark.parametrize(("place", "excerpt_at"), [(0, 0), (50_000, 49_909), (99_999, 99_908)])
def test_large_values_are_shown_around_what_differs(place: int, excerpt_at: int) -> None:
    text = "é" * 100_000
    other = text[:place] + "x" + text[place + 1 :]

    one, two = shown_values(_output({"text": text}, {"text": other}))

    assert isinstance(one, dict)
    assert isinstance(two, dict)
    assert one["size_bytes"] == 200_011
    assert one["excerpt_at"] == two["excerpt_at"] == excerpt_at
    assert "éx" in two["excerpt"] or '"x' in two["excerpt"]
    assert "x" not in one["excerpt"].removeprefix('{"text"')
    assert len(canonical_text([one, two]).encode()) < 4096


def test_a_value_that_is_the_beginning_of_the_other_is_shown_from_there() -> None:
    one, two = shown_values(_output("a" * 5000, "a" * 6000))

    assert isinstance(one, dict)
    assert isinstance(two, dict)
    assert (one["excerpt_at"], two["excerpt"].count("a")) == (4901, 500)
    assert one["sha256"] != two["sha256"]


def _output(original: Json, replayed: Json) -> Divergence:
    return Divergence(step_index=1, field=Field.OUTPUT, original=original, replayed=replayed)
