"""RFC 8785, with Pawl's rule for integers beyond a double's exact range."""

from __future__ import annotations

import json
import math
import time

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from libs.core.canonical import (
    MAX_SAFE_INTEGER,
    canonical,
    canonical_text,
    read_canonical,
    same_json,
)

_NUMBERS = [
    (0, "0"),
    (-0.0, "0"),
    (1.0, "1"),
    (2, "2"),
    (-1.5, "-1.5"),
    (0.1 + 0.2, "0.30000000000000004"),
    (1e-6, "0.000001"),
    (1e-7, "1e-7"),
    (1.5e16, "15000000000000000"),
    (123456789012345680000.0, "123456789012345680000"),
    (1e21, "1e+21"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (MAX_SAFE_INTEGER, "9007199254740991"),
    (2**53, "9007199254740992"),
    (2**53 + 1, "9007199254740992"),
    (-(10**22), "-1e+22"),
]

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("aéz😀דּ"), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(("value", "text"), _NUMBERS)
def test_canonical_writes_numbers_as_ecmascript_does(value: float, text: str) -> None:
    assert canonical_text(value) == text


@given(_json)
def test_canonical_is_what_the_reference_implementation_writes(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # JSON


@pytest.mark.parametrize("number", [1e-4, 9.999e-5, 2.0**53 - 0.5, 2.0**53, 1e15 + 0.3, 1e16, -0.0])
@pytest.mark.parametrize("shape", ["alone", "in a list", "in an object"])
def test_canonical_writes_a_number_the_same_wherever_it_stands(number: float, shape: str) -> None:
    value = {"alone": number, "in a list": ["a", number], "in an object": {"a": number}}[shape]

    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # JSON


def test_canonical_of_a_large_input_takes_a_moment() -> None:
    value = {"a": [[] for _ in range(300_000)], "b": [0.5] * 100_000}
    begin = time.process_time()

    canonical(value)

    assert time.process_time() - begin < 0.25


def test_canonical_sorts_keys_by_utf16_units_at_every_depth() -> None:
    value = {"b": {"z": 1, "a": 2}, "\U0001f600": 1, "\ufb33": 2, "": 0, "a": []}

    text = canonical_text(value)

    assert text == '{"":0,"a":[],"b":{"a":2,"z":1},"\U0001f600":1,"\ufb33":2}'


def test_canonical_escapes_only_quote_backslash_and_controls() -> None:
    assert canonical_text('"\\/\b\t\n\f\r\x01\x7f\u2028é') == (
        '"\\"\\\\/\\b\\t\\n\\f\\r\\u0001\x7f\u2028é"'
    )


def test_canonical_takes_tuples_as_arrays() -> None:
    assert canonical(("a", (1,))) == b'["a",[1]]'


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, 10**400, "\ud800", {"\ud800": 1}, {1: 2}, {None: 1}, {1}],
    ids=repr,
)
def test_canonical_refuses_what_json_cannot_say(value: object) -> None:
    with pytest.raises(ValueError, match=r"canonical form|double|is not JSON"):
        canonical(value)


@pytest.mark.parametrize("value", [b"abc", bytearray(b"abc"), memoryview(b"abc"), range(3)])
def test_canonical_refuses_bytes_and_other_sequences(value: object) -> None:
    with pytest.raises(ValueError, match="is not JSON"):
        canonical(value)


def test_canonical_refuses_a_value_too_deep_to_walk() -> None:
    value: object = 1
    for _ in range(100_000):
        value = [value]

    with pytest.raises(ValueError, match="nested too deeply"):
        canonical(value)


@given(_json, _json)
def test_same_json_is_equality_of_canonical_forms(one: object, other: object) -> None:
    assert same_json(one, json.loads(json.dumps(one)))
    assert same_json(one, other) is (canonical(one) == canonical(other))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (10**16, 1e16, True),
        (2**53, 2**53 + 1, True),
        (0, -0.0, True),
        (1, True, False),
        (0, False, False),
        (0, None, False),
        ("1", 1, False),
        ([1], (1,), True),
        ([1], {"0": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1.0}, True),
        ({"a": 1}, {"a": 1, "b": 1}, False),
    ],
)
def test_same_json_tells_types_apart_and_spellings_not(
    one: object, other: object, same: bool
) -> None:
    assert same_json(one, other) is same
    assert same_json(other, one) is same


@given(_json)
def test_canonical_is_stable_over_reading_it_back(value: object) -> None:
    text = canonical_text(value)

    assert canonical_text(read_canonical(text)) == text


@given(_json)
def test_canonical_forgets_spelling_but_not_meaning(value: object) -> None:
    spelled_otherwise = json.loads(json.dumps(value, indent=3, ensure_ascii=True))

    assert canonical(spelled_otherwise) == canonical(value)


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("9007199254740991", 9007199254740991, int),
        ("-9007199254740991", -9007199254740991, int),
        ("9007199254740992", 9007199254740992.0, float),
        ("10000000000000000", 1e16, float),
        ("-100000000000000000000", -1e20, float),
        ("7", 7, int),
    ],
)
def test_whole_numbers_come_back_as_what_they_were(text: str, value: float, kind: type) -> None:
    read = read_canonical(text)

    assert read == value
    assert type(read) is kind
    assert canonical_text(read) == text
