"""Identifiers: made as UUIDv7, read in the spellings that routes accept."""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

import pytest

from libs.core.ids import new_id, parse_id

_ID = UUID("0198c0de-7000-7abc-8def-0123456789ab")


def test_new_id_is_version_7_of_the_rfc_variant() -> None:
    made = new_id()

    assert (made.version, made.variant) == (7, RFC_4122)


def test_new_id_begins_with_the_milliseconds() -> None:
    made = new_id(unix_ms=0x0123456789AB)

    assert made.hex.startswith("0123456789ab7")


def test_new_id_without_a_time_takes_the_clock() -> None:
    before = time.time_ns() // 1_000_000

    made = new_id()

    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_new_ids_of_one_millisecond_differ() -> None:
    assert len({new_id(unix_ms=1) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "text",
    [
        str(_ID),
        str(_ID).upper(),
        f"task_{_ID}",
        f"task_{_ID.hex}",
        f"TASK_{_ID.hex.upper()}",
    ],
)
def test_parse_id_accepts_both_spellings(text: str) -> None:
    assert parse_id(text) == _ID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "task_",
        _ID.hex,
        f"{{{_ID}}}",
        f"urn:uuid:{_ID}",
        f" {_ID}",
        f"{_ID}\n",
        f"art_{_ID}",
        f"task_task_{_ID}",
        str(_ID)[:-1],
        str(_ID).replace("-", "_"),
        str(_ID).replace("0", "٠"),
        f"tas\u212a_{_ID}",
        f"{_ID}\x00",
    ],
    ids=ascii,
)
def test_parse_id_refuses_every_other_spelling(text: str) -> None:
    assert parse_id(text) is None


def test_parse_id_takes_the_prefix_that_it_is_told() -> None:
    assert parse_id(f"art_{_ID.hex}", prefix="art_") == _ID
