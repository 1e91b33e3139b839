"""Recorded runs of a real Pawl: they verify, and a program written from the page agrees."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.core.comparison import compare_blocks
from libs.core.recorded_trace import read_trace
from libs.core.verification import verify
from tests.determinism.record import read_run, recorded_runs
from tests.determinism.reimplementation import hashes_of, recorded_hashes
from tests.determinism.submissions import SUBMISSIONS

_PATHS = recorded_runs()


def test_every_submission_is_recorded() -> None:
    assert [path.stem for path in _PATHS] == sorted(SUBMISSIONS)


@pytest.mark.parametrize("path", _PATHS, ids=lambda path: path.stem)
def test_a_recorded_run_verifies(path: Path) -> None:
    recorded = read_run(path)
    block = recorded["trace"]["verification"]

    report = verify(recorded["trace"])
    assert recorded["submission"] == SUBMISSIONS[path.stem]
    assert report.holds, report.first_difference
    assert hashes_of(block) == recorded_hashes(block)


@pytest.mark.parametrize("path", _PATHS, ids=lambda path: path.stem)
def test_a_recorded_run_matches_itself_and_no_other(path: Path) -> None:
    block = read_trace(read_run(path)["trace"]).block
    others = [other for other in _PATHS if other != path]

    assert compare_blocks(block, block).matches is True
    for other in others:
        assert compare_blocks(block, read_trace(read_run(other)["trace"]).block).matches is False
