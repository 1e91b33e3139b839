"""Thousands of histories on virtual time, each decided by a seed, judged by their invariants."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.simulation.__main__ import quiet
from tests.simulation.histories import BREEZE, STORM, Told, run
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.profiles import MUTANT_HISTORIES, SEEDS, Seeds

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 900
HAPPENS = {
    "storm": (
        *("succeeded", "cancelled", "failed EXECUTOR_LOST", "failed TIMEOUT", "failed TOOL_ERROR"),
        *("taken over", "executor left", "lose_touch", "pause_database"),
        *("step_clock", "break_statements", "freeze_scheduler", "kill_scheduler", "reset"),
    ),
    "breeze": ("succeeded", "cancelled", "taken over", "executor left", "pause_between_drains"),
}
"""What some history of each profile has to come to, else nothing was tried."""


@pytest.fixture(autouse=True)
def silence() -> Any:
    """Nothing is said of what happens in the histories."""
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)


def start(seeds: Seeds) -> subprocess.Popen[str]:
    """A process of its own for the histories of a profile."""
    command = [sys.executable, "-m", "tests.simulation", seeds.profile, "0", str(seeds.histories)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_every_invariant_holds_in_every_history() -> None:
    running = [(seeds, start(seeds)) for seeds in SEEDS]

    outputs = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for _, process in running]

    for (seeds, _), output in zip(running, outputs, strict=True):
        told = json.loads(output.splitlines()[-1])
        shown = f"python -m tests.simulation {seeds.profile} SEED shows a history"
        assert told["failures"] == [], shown
        assert told["histories"] == seeds.histories
        marks = Counter(told["marks"])
        assert [mark for mark in HAPPENS[seeds.profile] if not marks[mark]] == []


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_broken_rule_is_found(mutant: Mutant) -> None:
    told = Told()

    for seed in range(MUTANT_HISTORIES):
        run(seed, BREEZE if seed % 2 else STORM, told, build=mutant.build())
        if told.failures:
            break

    ((seed, violation),) = told.failures
    profile = "breeze" if seed % 2 else "storm"
    print(f"{mutant.name} is found by {profile} {seed} after {told.histories}: {violation}")


def test_history_repeats() -> None:
    once, again = Told(), Told()

    for seed in range(5):
        run(seed, STORM, once)
        run(seed, STORM, again)

    assert once == again
