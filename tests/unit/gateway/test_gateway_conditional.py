"""Entity tags: when they differ, and when a caller has the answer already."""

from __future__ import annotations

import re
import time

import pytest

from gateway.conditional import has_it, weak_etag

ETAG = weak_etag(7, "task", "0199d2a1", "pawl-1", None)


def test_tag_is_weak_shows_its_revision_and_is_a_tag() -> None:
    assert re.fullmatch(r'W/"7-[0-9a-f]{20}"', ETAG)
    assert weak_etag(7, "task", "0199d2a1", "pawl-1", None) == ETAG


@pytest.mark.parametrize(
    ("revision", "about"),
    [
        (8, ("task", "0199d2a1", "pawl-1", None)),
        (7, ("trace", "0199d2a1", "pawl-1", None)),
        (7, ("task", "0199d2a2", "pawl-1", None)),
        (7, ("task", "0199d2a1", "pawl-2", None)),
        (7, ("task", "0199d2a1", "pawl-1", {"position": 1})),
    ],
)
def test_whatever_decides_makes_another_tag(revision: int, about: tuple[object, ...]) -> None:
    assert weak_etag(revision, *about) != ETAG


@pytest.mark.parametrize(
    "lines",
    [
        [ETAG],
        [ETAG.removeprefix("W/")],
        ["*"],
        [" * "],
        [f'"other", {ETAG}'],
        ['W/"other"', ETAG],
        [f'{ETAG},"x"'],
    ],
)
def test_who_has_it_is_known(lines: list[str]) -> None:
    assert has_it(lines, ETAG)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ['"other"'],
        [ETAG.replace('"', "")],
        [ETAG[:-1]],
        ['"*"'],
        [ETAG.replace("7-", "8-")],
        [f'"{ETAG}"'],
    ],
)
def test_who_has_another_is_not(lines: list[str]) -> None:
    assert not has_it(lines, ETAG)


@pytest.mark.parametrize("piece", ['"', 'W/"', "W/", '"x" ', '"x y'])
def test_hostile_lines_are_read_quickly(piece: str) -> None:
    begin = time.perf_counter()

    has_it([piece * (32_000 // len(piece))], ETAG)

    assert time.perf_counter() - begin < 0.5
