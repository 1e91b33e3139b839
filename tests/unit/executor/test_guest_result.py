"""Results as JSON: what the guest writes is what json would, within bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.sandbox.guest.result import MAX_DEPTH, ResultTooLargeError, result_text

PLENTY = 10**6

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_value_is_written_as_json_writes_it(value: Any) -> None:
    text = result_text(value, max_bytes=PLENTY)

    assert text == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@given(VALUES)
def test_bound_is_on_bytes(value: Any) -> None:
    size = len(result_text(value, max_bytes=PLENTY).encode())

    assert result_text(value, max_bytes=size)
    with pytest.raises(ResultTooLargeError, match=f"more than {size - 1} bytes"):
        result_text(value, max_bytes=size - 1)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_depth_is_bounded() -> None:
    assert result_text(nested(MAX_DEPTH), max_bytes=PLENTY) == "[" * MAX_DEPTH + "]" * MAX_DEPTH
    with pytest.raises(ValueError, match="nested deeper than 64 levels"):
        result_text(nested(MAX_DEPTH + 1), max_bytes=PLENTY)


def test_value_within_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(ValueError, match="nested deeper"):
        result_text(value, max_bytes=PLENTY)


def test_keys_are_written_as_json_writes_them() -> None:
    value = {True: 1, None: 2, 3: 4, 1.5: 6}

    assert json.loads(result_text(value, max_bytes=PLENTY)) == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": b"x"}, "result['a']: bytes cannot be written"),
        ([float("nan")], "result[0]: nan is no number"),
        (["\udc00"], "result[0]: half a surrogate pair, '\\udc00'"),
        ({"\udc00": 1}, "result: half a surrogate pair, '\\udc00'"),
        ({None: 1, "null": 1}, "result: two keys are written 'null'"),
        ({float("nan"): 1}, "result: a key of type float"),
        ([[10**5000]], "Exceeds the limit"),
    ],
    ids=["bytes", "nan", "text", "key", "two-keys", "nan-key", "huge"],
)
def test_what_json_has_no_word_for_is_named_with_its_place(value: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        result_text(value, max_bytes=PLENTY)

    assert str(caught.value).startswith(message)
