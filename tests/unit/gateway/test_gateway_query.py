"""Query strings, read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.query import MAX_PARAMETERS, cursor_of, limit_of, read_query, text_of, wait_seconds_of
from libs.core.errors import PawlError


def code_of(raw: bytes, known: tuple[str, ...] = ("a", "b")) -> str:
    with pytest.raises(PawlError) as caught:
        read_query(raw, known=known)
    return caught.value.code


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        (b"", {}),
        (b"&&", {}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=1+2%20%C3%A9", {"a": "1 2 é"}),
        (b"a", {"a": ""}),
        (b"%61=x=y", {"a": "x=y"}),
    ],
)
def test_known_names_are_read(raw: bytes, query: dict[str, str]) -> None:
    assert read_query(raw, known=("a", "b")) == query


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"c=1", "unknown_field"),
        (b"A=1", "unknown_field"),
        (b"=1", "unknown_field"),
        (b"%00=1", "unknown_field"),
        (b"a=1&a=1", "validation_failed"),
        (b"a=%", "validation_failed"),
        (b"a=%zz", "validation_failed"),
        (b"a=%ff", "validation_failed"),
        (b"a=%ed%a0%80", "validation_failed"),
        (b"%ff=1", "validation_failed"),
        (b"a=\xff", "validation_failed"),
        (b"a=" + b"x" * 3000, "validation_failed"),
        (b"a&" * (MAX_PARAMETERS + 1), "validation_failed"),
    ],
)
def test_anything_else_is_refused(raw: bytes, code: str) -> None:
    assert code_of(raw) == code


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0.0),
        ("0", 0.0),
        ("25", 25.0),
        ("2.5", 2.5),
        ("025", 25.0),
        ("7.223316757861349", 7.223316757861349),
        ("1e1", 10.0),
        ("1E-7", 1e-7),
    ],
)
def test_wait_is_a_number_of_seconds(text: str | None, seconds: float) -> None:
    assert wait_seconds_of({} if text is None else {"wait": text}) == seconds


@pytest.mark.parametrize(
    "text", ["", "25.1", "26", "-1", "+1", "1e", "1e2", "9e999", "nan", "inf", " 1", "٣", "1."]
)
def test_another_wait_is_refused(text: str) -> None:
    with pytest.raises(PawlError) as caught:
        wait_seconds_of({"wait": text})

    assert caught.value.errors[0].field == "wait"


def test_a_page_has_a_limit_and_a_cursor() -> None:
    assert (limit_of({}), cursor_of({})) == (0, "")
    assert (limit_of({"limit": "200"}), cursor_of({"cursor": "x"})) == (200, "x")


@pytest.mark.parametrize("text", ["0", "201", "", "1.0", "-1", "²", "9" * 30])
def test_another_limit_is_refused(text: str) -> None:
    with pytest.raises(PawlError):
        limit_of({"limit": text})


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    outcome = 200
    try:
        read_query(raw, known=("a", "b"))
    except PawlError as error:
        outcome = error.kind.http

    assert outcome in {200, 422}


def test_an_empty_value_is_not_an_absent_one() -> None:
    assert (text_of({}, "month"), text_of({"month": "2026-02"}, "month")) == ("", "2026-02")

    with pytest.raises(PawlError) as caught:
        text_of({"month": ""}, "month")

    assert caught.value.errors[0].field == "month"
