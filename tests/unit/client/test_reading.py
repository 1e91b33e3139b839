"""JSON read into records: tolerant of what is new, strict about what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from libs.client.reading import Unexpected, moment, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    at: datetime
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    pair: tuple[str, int] | None = None
    share: float = 0.0
    flag: bool = False
    rest: Mapping[str, Any] = field(default_factory=dict)
    anything: Any = None
    raw: Mapping[str, Any] = field(repr=False, compare=False)


NOW = "2026-02-27T11:18:02.5+00:00"


def test_a_record_is_read_with_its_members_and_the_object_itself() -> None:
    value = {
        "name": "x",
        "at": NOW,
        "inner": {"n": 1},
        "many": [{"n": 2}, {"n": 3}],
        "pair": ["a", 4],
        "share": 1,
        "flag": True,
        "rest": {"a": [1]},
        "anything": [None],
    }

    found = read(Outer, value)

    assert found == Outer(
        name="x",
        at=datetime(2026, 2, 27, 11, 18, 2, 500000, tzinfo=UTC),
        inner=Inner(n=1),
        many=(Inner(n=2), Inner(n=3)),
        pair=("a", 4),
        share=1.0,
        flag=True,
        rest={"a": [1]},
        anything=[None],
        raw={},
    )
    assert found.raw is value


def test_members_of_tomorrow_are_left_aside_and_optional_ones_may_be_absent() -> None:
    found = read(Outer, {"name": "x", "at": NOW, "new": {"n": []}, "inner": None})

    assert (found.inner, found.many, found.pair) == (None, (), None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": None}, "name is not a string"),
        ({"name": 1}, "name is not a string"),
        ({"at": 1}, "at is not a time"),
        ({"at": "2026-02-27"}, "at is not a time with its offset"),
        ({"at": "2026-02-27T11:18:02"}, "at is not a time with its offset"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "at is not a time"),
        ({"inner": []}, "inner is not an object"),
        ({"inner": {}}, "inner has no 'n'"),
        ({"inner": {"n": True}}, "inner.n is not an integer"),
        ({"inner": {"n": 1.0}}, "inner.n is not an integer"),
        ({"inner": {"n": 2**63}}, "inner.n is not an integer"),
        ({"many": {}}, "many is not an array"),
        ({"many": [{"n": 1}, {"n": "1"}]}, r"many\[1\].n is not an integer"),
        ({"pair": ["a"]}, "pair is not an array of 2"),
        ({"pair": ["a", "b"]}, r"pair\[1\] is not an integer"),
        ({"share": "1"}, "share is not an integer"),
        ({"share": float("nan")}, "share is not"),
        ({"flag": 1}, "flag is not true or false"),
        ({"rest": []}, "rest is not an object"),
    ],
)
def test_a_member_of_another_type_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Unexpected, match=words):
        read(Outer, {"name": "x", "at": NOW} | change)


@pytest.mark.parametrize("value", [None, [], "x", 1, {}])
def test_what_is_no_such_object_is_refused(value: object) -> None:
    with pytest.raises(Unexpected):
        read(Outer, value)


def test_times_become_utc_whatever_their_offset() -> None:
    there = datetime(2026, 6, 15, 9, tzinfo=timezone(timedelta(hours=2)))

    assert moment("2026-06-15T09:00:00+02:00") == there
    assert moment("2026-06-15T07:00:00Z").tzinfo is UTC


def test_a_hint_that_nobody_can_read_is_a_mistake_of_the_record() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Odd:
        x: set[int]

    with pytest.raises(TypeError, match="no reader for"):
        read(Odd, {"x": []})
