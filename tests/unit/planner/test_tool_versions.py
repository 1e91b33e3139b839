from __future__ import annotations

import random

from services.planner.tool_versions import version_key

OLDEST_FIRST = [
    "0.9",
    "1",
    "1.0-alpha",
    "1.0-alpha.1",
    "1.0-beta",
    "1.0-rc2",
    "1.0-rc10",
    "1.0",
    "1.0+docker",
    "1.0+docker.2",
    "1.0.0",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0-rc1",
    "2.0.0",
    "2026.11.23",
]


def test_versions_are_ordered_from_oldest_to_newest() -> None:
    mixed = OLDEST_FIRST.copy()
    random.Random(7).shuffle(mixed)

    assert sorted(mixed, key=version_key) == OLDEST_FIRST


def test_spellings_that_are_equal_otherwise_are_parted_by_their_text() -> None:
    assert version_key("1.01") != version_key("1.1")
    assert version_key("v1") < version_key("1")
