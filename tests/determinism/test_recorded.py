"""Recorded runs of a real Pawl: they verify, and a program written from the page agrees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from libs.core.verification import verify
from tests.determinism.record import DIRECTORY, SUBMISSIONS
from tests.determinism.reimplementation import hashes_of, recorded_hashes

_PATHS = sorted(DIRECTORY.glob("*.json"))


def test_every_submission_is_recorded() -> None:
    assert [path.stem for path in _PATHS] == sorted(SUBMISSIONS)


@pytest.mark.parametrize("path", _PATHS, ids=lambda path: path.stem)
def test_a_recorded_run_verifies(path: Path) -> None:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    block = recorded["trace"]["verification"]

    report = verify(recorded["trace"])
    assert recorded["submission"] == SUBMISSIONS[path.stem]
    assert report.holds, report.first_difference
    assert hashes_of(block) == recorded_hashes(block)
