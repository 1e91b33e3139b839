"""Members of a request's object, each of exactly its type."""

from __future__ import annotations

import pytest

from gateway.members import Members
from libs.core.canonical import Json
from libs.core.errors import PawlError


def errors_of(members: Members) -> list[tuple[str, str]]:
    with pytest.raises(PawlError) as caught:
        members.check()
    return [(error.field, error.code) for error in caught.value.errors]


def test_members_of_their_types_are_taken() -> None:
    body: dict[str, Json] = {"o": {"a": 1}, "t": "x", "l": ["a"], "i": 3, "n": 2, "any": None}
    members = Members(body)

    assert members.record("o") == {"a": 1}
    assert members.text("t") == "x"
    assert members.texts("l") == ["a"]
    assert members.integer("i", minimum=1, maximum=3) == 3
    assert members.number("n", above=0) == 2.0
    assert members.anything("any") is None
    members.check()


def test_absent_members_are_none() -> None:
    members = Members({})

    assert members.record("o") is None
    assert members.text("t") == ""
    assert members.texts("l") is None
    assert members.integer("i", minimum=1, maximum=3) is None
    assert members.number("n", above=0) is None
    members.check()


@pytest.mark.parametrize("value", [None, True, "1", 1.0, [], {}, 1.5])
def test_an_integer_is_nothing_else(value: Json) -> None:
    members = Members({"i": value})

    assert members.integer("i", minimum=1, maximum=3) is None
    assert errors_of(members) == [("i", "wrong_type")]


@pytest.mark.parametrize("value", [None, True, "1", [], {}])
def test_a_number_is_nothing_else(value: Json) -> None:
    members = Members({"n": value})

    assert members.number("n", above=0) is None
    assert errors_of(members) == [("n", "wrong_type")]


@pytest.mark.parametrize("value", [0, -1, -0.0, -1e300])
def test_a_number_is_above_its_bound(value: Json) -> None:
    members = Members({"n": value})

    assert members.number("n", above=0) is None
    assert errors_of(members) == [("n", "out_of_range")]


@pytest.mark.parametrize("value", [None, 1, [], {}])
def test_a_record_and_a_text_are_nothing_else(value: Json) -> None:
    members = Members({"o": 1 if isinstance(value, dict) else value, "t": value})

    members.record("o")
    members.text("t")

    assert errors_of(members) == [("o", "wrong_type"), ("t", "wrong_type")]


def test_a_missing_member_that_is_required_is_refused() -> None:
    members = Members({})

    members.record("o", required=True)

    assert errors_of(members) == [("o", "required")]


def test_unknown_members_are_refused_and_their_names_bounded() -> None:
    members = Members({"k": 1, **{"u" * 500 + str(n): n for n in range(500)}})
    members.anything("k")

    with pytest.raises(PawlError) as caught:
        members.check()

    assert caught.value.code == "unknown_field"
    assert len(caught.value.errors) == 10
    assert all(len(error.field) <= 64 for error in caught.value.errors)


def test_records_are_read_each_as_a_whole_is() -> None:
    members = Members({"l": [{"t": "x"}, {"t": "y"}]})

    assert [one.text("t") for one in members.records("l", max_items=2)] == ["x", "y"]
    members.check()


@pytest.mark.parametrize("value", [None, {}, "x", [], [{}, {}, {}]])
def test_records_are_an_array_of_as_many_as_allowed(value: Json) -> None:
    members = Members({"l": value})

    assert members.records("l", max_items=2) == []
    assert [field for field, _ in errors_of(members)] == ["l"]


def test_what_is_wrong_within_a_record_names_its_place() -> None:
    members = Members({"l": [{"i": 9}, 7, {"x": 1}], "y": 1})

    for one in members.records("l", max_items=3):
        one.integer("i", minimum=1, maximum=3)

    assert errors_of(members) == [
        ("l[1]", "wrong_type"),
        ("y", "unknown_field"),
        ("l[0].i", "out_of_range"),
        ("l[2].x", "unknown_field"),
    ]


def test_an_array_of_a_thousand_wrongs_names_a_hundred() -> None:
    members = Members({"l": [7] * 1000})

    members.records("l", max_items=1000)

    assert len(errors_of(members)) == 100
