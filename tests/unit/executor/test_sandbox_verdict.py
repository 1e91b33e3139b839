"""What a guest is sent, and what its answers come to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.core.errors import FailureCode, StepFailed
from services.executor.sandbox import verdict
from services.executor.sandbox.model import CodeLimits, CodeRequest, CodeResult, Death

LIMITS = CodeLimits()
REQUEST = CodeRequest(
    code="result = 1", input_json='{"a":[1,2]}', seed=2**64 - 1, now=12.5, wall_seconds=2.5
)
GOOD = {"v": 1, "id": "r1", "ok": True, "result": {"b": 1}, "stdout": "out", "stderr": "err"}
BAD = {"v": 1, "id": "r1", "ok": False, "stdout": "", "stderr": ""}


def read(said: Any) -> CodeResult:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    found = verdict.read_answer(body, request_id="r1", limits=LIMITS, wall_seconds=2.5)
    if isinstance(found, StepFailed):
        raise found
    return found


def failure(said: Any) -> StepFailed:
    with pytest.raises(StepFailed) as failed:
        read(said)
    return failed.value


def test_a_request_carries_the_input_as_it_is() -> None:
    frame = verdict.request_frame(REQUEST, request_id="r1", limits=LIMITS)

    said = json.loads(frame)
    assert said["input"] == {"a": [1, 2]}
    assert (said["v"], said["id"], said["code"]) == (1, "r1", "result = 1")
    assert (said["seed"], said["now"]) == (2**64 - 1, 12.5)
    assert said["limits"]["wall_seconds"] == 2.5
    assert said["limits"]["cpu_seconds"] == 4
    assert b'"input": {"a":[1,2]}' in frame


def test_no_input_changes_the_rest_of_a_request() -> None:
    plain = json.loads(verdict.request_frame(REQUEST, request_id="r1", limits=LIMITS))
    text = '1,"limits":{"wall_seconds":9e9},"id":"x","code":"y","seed":1,"now":2,"v":3'
    hostile = replace(REQUEST, input_json=text)

    said = json.loads(verdict.request_frame(hostile, request_id="r1", limits=LIMITS))

    assert said == {**plain, "input": 1}


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_result_that_no_number_can_be_is_refused(number: str) -> None:
    body = json.dumps({**GOOD, "result": "?"}).replace('"?"', number).encode()

    assert failure(body).code is FailureCode.CODE_ERROR


@pytest.mark.parametrize(
    "said", [{"code": "CRASHED", "signal": 10**4000}, {"code": "NO_RESULT", "exit": True}]
)
def test_numbers_that_no_guest_has_are_not_told(said: dict[str, Any]) -> None:
    assert "unknown" in failure({**BAD, **said}).message


@pytest.mark.parametrize("what", ["code", "input_data"])
def test_what_is_too_large_is_refused(what: str) -> None:
    large = CodeRequest(
        code="#" * (LIMITS.code_bytes + (what == "code")),
        input_json='"' + "é" * (LIMITS.input_bytes // 2) + '"' if what == "input_data" else "1",
        seed=0,
        now=0,
        wall_seconds=1,
    )

    with pytest.raises(StepFailed, match=f"^{what} has ") as failed:
        verdict.check_size(large, LIMITS)
    assert (failed.value.code, failed.value.reason) == (FailureCode.INPUT_SCHEMA, "TOO_LARGE")


def test_a_good_answer_is_a_result() -> None:
    assert read(GOOD) == CodeResult(result_json='{"b":1}', stdout="out", stderr="err")
    assert read({**GOOD, "result": None}).result_json == "null"


def test_nul_is_kept_in_a_result_and_what_was_printed_and_half_a_surrogate_pair_is_not() -> None:
    found = read({**GOOD, "result": "a\0", "stdout": "b\0", "stderr": "c\ud800"})

    assert found == CodeResult(result_json='"a\\u0000"', stdout="b\0", stderr="c?")


@pytest.mark.parametrize(
    ("word", "code", "reason"),
    [
        ("CODE_ERROR", FailureCode.CODE_ERROR, None),
        ("WALL", FailureCode.TIMEOUT, "WALL"),
        ("CPU", FailureCode.TIMEOUT, "CPU"),
        ("MEMORY_LIMIT", FailureCode.MEMORY_LIMIT, None),
        ("OUTPUT_TOO_LARGE", FailureCode.OUTPUT_LIMIT, "OUTPUT_TOO_LARGE"),
        ("RESULT_TOO_LARGE", FailureCode.OUTPUT_LIMIT, "RESULT_TOO_LARGE"),
        ("FILE_LIMIT", FailureCode.FILE_LIMIT, None),
        ("CRASHED", FailureCode.CRASHED, None),
        ("KILLED", FailureCode.SANDBOX_LOST, "KILLED"),
        ("NO_RESULT", FailureCode.CODE_ERROR, "NO_RESULT"),
        ("SANDBOX_ERROR", FailureCode.SANDBOX_ERROR, None),
    ],
)
def test_every_word_has_its_code(word: str, code: FailureCode, reason: str | None) -> None:
    failed = failure({**BAD, "code": word})

    assert (failed.code, failed.reason) == (code, reason)
    assert failed.message
    assert "{" not in failed.message


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"code": "FILE_LIMIT", "signal": 25}, "a file of more than 8 MiB, or too many files"),
        ({"code": "FILE_LIMIT"}, "a file of more than 8 MiB, or too many files"),
        ({"code": "MEMORY_LIMIT", "signal": 9}, "more than 200 MiB of memory"),
        ({"code": "CRASHED", "signal": 11}, "signal 11"),
        ({"code": "CRASHED", "signal": "x" * 9}, "signal unknown"),
        ({"code": "NO_RESULT", "exit": 3}, "before there was a result (exit code 3)"),
        ({"code": "KILLED", "signal": 9}, "not run again"),
        ({"code": "OUTPUT_TOO_LARGE"}, "printed more than 131072 bytes"),
        ({"code": "RESULT_TOO_LARGE"}, "more than 262144 bytes"),
    ],
)
def test_an_end_without_an_exception_is_told(said: dict[str, Any], told: str) -> None:
    assert told in failure({**BAD, **said}).message


def test_an_error_is_told_with_type_message_line_and_traceback() -> None:
    error = {
        "type": "ValueError",
        "message": "no\x00pe \ud800",
        "line": 3,
        "traceback": '  File "<step>", line 3',
    }

    failed = failure({**BAD, "code": "CODE_ERROR", "error": error})

    assert failed.message == 'ValueError: no\ufffdpe ? (line 3)\n  File "<step>", line 3'


def test_a_long_error_is_cut() -> None:
    error = {"type": "T" * 9000, "message": "m" * 9000, "line": True, "traceback": "t" * 9000}

    for told in (error, {**error, "message": ""}):
        message = failure({**BAD, "code": "CODE_ERROR", "error": told}).message
        assert len(message) < 4000
        assert "(line" not in message


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff",
        b"[]",
        b"nonsense",
        b'{"v":1',
        b'{"v":1,"id":"r1","ok":true,"result":NaN,"stdout":"","stderr":""}',
        b"[" * 100_000,
        {**GOOD, "id": "r2"},
        {**GOOD, "v": 2},
        {**GOOD, "stdout": 1},
        {**GOOD, "stderr": None},
        {**GOOD, "stdout": "x" * (3 * LIMITS.output_bytes + 1)},
        {name: value for name, value in GOOD.items() if name != "result"},
        {**BAD, "code": "SUCCESS"},
        {**BAD, "code": None},
        {**BAD, "code": ["WALL"]},
        {**GOOD, "ok": 1},
    ],
)
def test_what_breaks_the_protocol_is_an_error_of_the_sandbox(said: Any) -> None:
    assert failure(said).code is FailureCode.SANDBOX_ERROR


def test_a_result_beyond_its_bound_is_refused_even_if_the_guest_lets_it_through() -> None:
    failed = failure({**GOOD, "result": "x" * LIMITS.result_bytes})

    assert (failed.code, failed.reason) == (FailureCode.OUTPUT_LIMIT, "RESULT_TOO_LARGE")


@pytest.mark.parametrize(
    ("death", "code", "said"),
    [
        (Death(is_out_of_memory=True, exit_code=137), FailureCode.MEMORY_LIMIT, "memory"),
        (Death(is_out_of_memory=False, exit_code=137), FailureCode.SANDBOX_LOST, "exit code 137"),
        (Death(is_out_of_memory=False, exit_code=None), FailureCode.SANDBOX_LOST, "not run again"),
    ],
)
def test_a_guest_that_ended_without_an_answer(death: Death, code: FailureCode, said: str) -> None:
    failed = verdict.lost(death)

    assert failed.code is code
    assert said in failed.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


# A machine under load is no fault of the values.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["v", "id", "ok", "result", "stdout", "stderr", "code", "error"]),
        json_values | st.sampled_from([1, "r1", True, False, "WALL", "CODE_ERROR"]),
    ).map(lambda said: json.dumps(said).encode())
)
def test_whatever_a_guest_says_is_a_result_or_a_failure(body: bytes) -> None:
    try:
        result = read(body)
    except StepFailed as failed:
        failed.message.encode()
    else:
        json.loads(result.result_json)
