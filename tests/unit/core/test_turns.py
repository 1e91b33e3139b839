"""Whose turn it is."""

from __future__ import annotations

from collections import Counter

import pytest

from libs.core.turns import next_turn


@pytest.mark.parametrize(
    ("waiting", "held", "goes"),
    [
        ("", "", None),
        ("a", "", 0),
        ("ab", "", 0),
        ("aab", "a", 2),
        ("aabc", "a", 2),
        ("bca", "ab", 1),
        ("a", "aa", None),
        ("aab", "aa", 2),
        ("ab", "aac", None),
        ("ab", "aab", None),
    ],
)
def test_next_turn_is_of_who_holds_fewest_and_then_waits_longest(
    waiting: str, held: str, goes: int | None
) -> None:
    assert next_turn(list(waiting), Counter(held), most=3, most_each=2) == goes


def test_next_turn_of_one_place_goes_by_the_wait() -> None:
    assert next_turn(["a", "b"], {}, most=1, most_each=1) == 0
    assert next_turn(["a", "b"], {"a": 1}, most=1, most_each=1) is None
