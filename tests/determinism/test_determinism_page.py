"""docs/determinism.md is enough to compute the hashes: its examples, a program written from it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.core.canonical import canonical_text
from libs.core.plan import LIMIT_NAMES
from libs.core.verification import verify
from tests.determinism import reimplementation
from tests.recorded_traces import make_trace, make_unplanned_trace

_PAGE = (Path(__file__).parents[2] / "docs" / "determinism.md").read_text(encoding="utf-8")


def _blocks(label: str) -> list[str]:
    return re.findall(rf"^```{label}\n(.*?)\n```$", _PAGE, re.MULTILINE | re.DOTALL)


_HASHED = [block.split("\n") for block in _blocks("hashed")]
_EXAMPLES: list[dict[str, Any]] = [json.loads(block) for block in _blocks("json verification")]


def test_the_page_has_two_examples_with_every_kind_of_hash() -> None:
    tags = [tag for tag, _, _ in _HASHED]

    assert len(_EXAMPLES) == 2
    assert tags[:2] == ["pawl:tool:v1", "pawl:toolset:v1"]
    assert tags[2:] == ["pawl:plan:v1", "pawl:step:v1", "pawl:step:v1", "pawl:task:v1"] * 2


@pytest.mark.parametrize(("tag", "text", "stated"), _HASHED)
def test_a_block_of_the_page_states_the_hash_of_its_bytes(tag: str, text: str, stated: str) -> None:
    assert stated == "sha256 " + hashlib.sha256(f"{tag}\n{text}".encode()).hexdigest()
    assert reimplementation.canonical(json.loads(text)) == canonical_text(json.loads(text)) == text


def test_the_tool_of_the_page_has_the_stated_digest() -> None:
    (spec,) = _blocks("json tool")

    assert f"sha256 {reimplementation.tool_digest(json.loads(spec))}" == _HASHED[0][2]


@pytest.mark.parametrize("number", [0, 1])
def test_an_example_of_the_page_holds(number: int) -> None:
    example = _EXAMPLES[number]
    hashes = reimplementation.hashes_of(example)
    stated = [line.removeprefix("sha256 ") for _, _, line in _HASHED[2 + 4 * number :][:4]]

    assert [hashes["plan_hash"], *hashes["step_hashes"], hashes["task_hash"]] == stated
    assert hashes == reimplementation.recorded_hashes(example)
    assert verify(example).holds


@pytest.mark.parametrize(
    "trace",
    [
        make_trace(),
        make_trace(state="failed", failed_step=2, failure_code="TOOL_ERROR"),
        make_trace(state="failed", open_step=2, failure_code="EXECUTOR_LOST"),
        make_trace(state="cancelled", open_step=1),
        make_trace(state="running", open_step=3),
        make_unplanned_trace(),
    ],
)
def test_the_program_written_from_the_page_agrees_with_pawl(trace: dict[str, Any]) -> None:
    block = trace["verification"]

    assert reimplementation.hashes_of(block) == reimplementation.recorded_hashes(block)


@given(st.integers(0, 2**64 - 1))
def test_both_write_every_double_alike(bits: int) -> None:
    (value,) = struct.unpack("d", bits.to_bytes(8, "little"))
    if math.isfinite(value):
        assert reimplementation.canonical(value) == canonical_text(value)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_both_write_every_key_and_integer_alike(value: dict[str, int]) -> None:
    assert reimplementation.canonical(value) == canonical_text(value)


def test_the_page_names_every_limit() -> None:
    assert [name for name in LIMIT_NAMES if f"`{name}`" not in _PAGE] == []
