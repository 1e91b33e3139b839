"""How long a caller wants to wait, as headers say it."""

from __future__ import annotations

import time

import pytest

from gateway.wait import wait_preference


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["wait=10"], 10),
        (["wait=0"], 0),
        (["WAIT = 10"], 10),
        (['wait="10"'], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10"], 10),
        (["wait=10; foo=bar, return=minimal"], 10),
        (["wait=3, wait=9"], 3),
        (["wait=3", "wait=9"], 3),
        (['return="wait=1, or not", wait=7'], 7),
        (["wait=26"], 25),
        (["wait=999999999"], 25),
    ],
)
def test_preference_is_read(lines: list[str], seconds: int) -> None:
    assert wait_preference(lines) == seconds


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["respond-async"],
        ["waiting=10"],
        ["return=wait"],
        ["wait"],
        ["wait="],
        ["wait=-1"],
        ["wait=1.5"],
        ["wait=1e1"],
        ["wait=٣"],
        ["wait=9999999999"],
        ["wait=ten, wait=10"],
        ['wait="10'],
        ["wait=1 0"],
        [",,,;;;==="],
    ],
)
def test_what_is_not_understood_is_ignored(lines: list[str]) -> None:
    assert wait_preference(lines) is None


@pytest.mark.parametrize("piece", ['"', '"\\', '\\"', ",", "wait=", 'wait="', " ", '"\\"'])
def test_hostile_lines_are_read_quickly(piece: str) -> None:
    lines = [piece * (32_000 // len(piece)), *[piece * (1000 // len(piece))] * 30]
    begin = time.process_time()

    wait_preference(lines)

    assert time.process_time() - begin < 0.5
