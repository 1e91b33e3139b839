"""The strict reader, rule by rule."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.canonical import Json
from libs.core.errors import PawlError
from libs.core.json_reader import MAX_MEMBERS, json_type, read_json, read_object


def code_of(data: bytes) -> str:
    with pytest.raises(PawlError) as caught:
        read_json(data)
    return caught.value.code


def test_read_json_returns_values_with_their_types() -> None:
    value = read_object(b' {"a": [1, 2.5, -0.0, "x", true, null, {"b": 1e3}]} ')

    assert value == {"a": [1, 2.5, 0.0, "x", True, None, {"b": 1000.0}]}
    items = value["a"]
    assert isinstance(items, list)
    assert [type(item) for item in items[:2]] == [int, float]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"{'a':1}",
        b'{"a":1,}',
        b"[1,]",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"nan",
        b"tru",
        b"{}{}",
        b'{"a":1}GET',
        b'"a\tb"',
        b'"a\x00b"',
        b'"\\x41"',
        b'"\\ud83"',
        b"// a\n1",
        b"1_000",
        b"\xc2\xa01",
        b'{"a" 1}',
        b"{1:2}",
        b"[}",
        b"]" * 100_000,
        b'"' + b"[" * 100_000,
    ],
)
def test_malformed_json_is_refused(data: bytes) -> None:
    assert code_of(data) == "malformed_json"


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-16-be"),
        '{"a":1}'.encode("utf-32"),
        '{"a":1}'.encode("utf-32-be"),
        b'{"topic":"\xff\xfe"}',
        b'{"a":"\xc0\xae"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xe4\xb8"}',
        b'"\xf4\x90\x80\x80"',
    ],
)
def test_anything_but_utf8_is_invalid_encoding(data: bytes) -> None:
    assert code_of(data) == "invalid_encoding"


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"b":[{"a":1,"x":2,"a":3}]}',
        b'{"a":1,"\\u0061":2}',
        b'{"\\u0000":1,"\\u0000":2}',
        b'{"\\ud800":1,"\\ud800":2}',
        b'{"":1,"":2}',
    ],
)
def test_a_key_that_occurs_twice_is_refused(data: bytes) -> None:
    assert code_of(data) == "duplicate_key"


def test_the_message_about_a_duplicate_key_can_always_be_written() -> None:
    with pytest.raises(PawlError) as caught:
        read_json(b'{"\\ud800' + b"k" * 5000 + b'":1,"\\ud800' + b"k" * 5000 + b'":2}')

    caught.value.message.encode()
    caught.value.errors[0].field.encode()
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" * 400 + ".0"]
)
def test_numbers_that_are_not_finite_are_refused(text: str) -> None:
    assert code_of(f'{{"a":{text}}}'.encode()) == "non_finite_number"


@pytest.mark.parametrize(
    "text",
    ["9007199254740992", "9007199254740993", "-9007199254740992", "9" * 5000, "-" + "9" * 5000],
)
def test_integers_beyond_the_safe_range_are_refused(text: str) -> None:
    assert code_of(text.encode()) == "number_out_of_range"


@pytest.mark.parametrize("text", ["9007199254740991", "-9007199254740991", "1e300", "-0", "0.1"])
def test_numbers_inside_the_range_are_read(text: str) -> None:
    assert read_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b'{"t":{"topic":"a\\u0000b"}}', "t.topic"),
        (b'{"t":[1,"\\ud800"]}', "t[1]"),
        (b'{"t":"\\udc00\\ud800"}', "t"),
        (b'{"t":{"a\\u0000":1}}', "t"),
        (b'{"\\udfff":1}', ""),
    ],
)
def test_characters_that_cannot_be_stored_are_refused(data: bytes, path: str) -> None:
    with pytest.raises(PawlError) as caught:
        read_json(data)

    assert caught.value.code == "invalid_characters"
    assert caught.value.errors[0].field == path


@pytest.mark.parametrize(
    "data", [b'"\\ud83d\\ude00"', b'"\\u0001"', '"😀\u007f"'.encode(), b'"\\\\u0000"']
)
def test_characters_that_can_be_stored_are_read(data: bytes) -> None:
    assert read_json(data) == json.loads(data)


def nested(levels: int) -> bytes:
    return b'{"task_definition":{"a":' + b"[" * levels + b"1" + b"]" * levels + b"}}"


def test_depth_64_is_read_and_65_refused() -> None:
    read_json(nested(62))

    assert code_of(nested(63)) == "too_deep"


def test_brackets_inside_strings_have_no_depth() -> None:
    text = "[{" * 1000 + '\\"' + '\\\\"'

    assert read_json(json.dumps({"a": text, "b": [text]}).encode()) == {"a": text, "b": [text]}


def test_siblings_have_no_depth() -> None:
    assert read_json(b"[" + b",".join([b"[[]]"] * 5000) + b"]") == [[[]]] * 5000


@pytest.mark.parametrize("piece", [b"[", b'{"a":', b'[{"a":'])
def test_endless_nesting_is_refused_at_once(piece: bytes) -> None:
    data = piece * (1_000_000 // len(piece))
    begin = time.perf_counter()

    assert code_of(data) == "too_deep"
    assert time.perf_counter() - begin < 1


def test_members_are_counted_over_the_whole_document() -> None:
    def document(members: int) -> bytes:
        half = members // 2
        inner = {f"k:{index}": index for index in range(half)}
        outer = {f"o:{index}": ":" for index in range(members - half - 1)}
        return json.dumps(outer | {"inner": inner}).encode()

    read_json(document(MAX_MEMBERS))

    assert code_of(document(MAX_MEMBERS + 1)) == "too_many_keys"


@pytest.mark.parametrize("data", [b"null", b"1", b'"x"', b"[]", b"true", b"[{}]"])
def test_a_body_that_is_no_object_fails_validation(data: bytes) -> None:
    with pytest.raises(PawlError) as caught:
        read_object(data)

    assert caught.value.code == "validation_failed"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        ("", "a string"),
        ({}, "an object"),
        ([], "an array"),
    ],
)
def test_json_type_names_every_type(value: Json, name: str) -> None:
    assert json_type(value) == name


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\x00")), inner)
    ),
)


@given(JSON_VALUES, st.booleans())
def test_what_json_writes_is_read_back(value: Json, ascii_only: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    outcome = 200
    try:
        read_json(data)
    except PawlError as error:
        outcome = error.kind.http

    assert outcome in {200, 400, 422}
