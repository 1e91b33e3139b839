from __future__ import annotations

import ast
import os
import subprocess
import sys
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.process import crash_points
from libs.process.crash_points import CRASH_POINTS, arm_crash_points, pass_crash_point
from libs.process.env import ConfigError

ROOT = Path(__file__).resolve().parents[3]
PASSES = """
import os
from libs.process.crash_points import arm_crash_points, pass_crash_point
from libs.process.logs import configure_logs
configure_logs("test")
arm_crash_points(os.environ)
for number in range(1, 6):
    print(number, flush=True)
    pass_crash_point("queue.after_claim")
"""


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm_crash_points({})


def run(crash_at: str, crash_dir: Path | None = None) -> tuple[int, str, str]:
    """Exit code of a process that passes a point five times, what it printed, what it logged."""
    given = {"PAWL_CRASH_AT": crash_at, "PAWL_CRASH_DIR": str(crash_dir or "")}
    done = subprocess.run(
        [sys.executable, "-c", PASSES],
        env={**os.environ, "PYTHONPATH": str(ROOT), **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.returncode, done.stdout.split()[-1], done.stderr


@pytest.mark.parametrize(
    ("crash_at", "last"), [("queue.after_claim", "1"), ("queue.after_claim:3", "3")]
)
def test_process_dies_at_the_passing_that_was_asked_for(crash_at: str, last: str) -> None:
    code, printed, logged = run(crash_at)

    assert (code, printed) == (-9, last)
    assert '"killed at a crash point"' in logged
    assert '"point":"queue.after_claim"' in logged


@pytest.mark.parametrize("crash_at", ["", "artifact.after_row", "queue.after_claim:6"])
def test_process_lives_when_another_passing_or_none_was_asked_for(crash_at: str) -> None:
    assert run(crash_at)[:2] == (0, "5")


def test_point_kills_once_in_all_processes_that_share_a_directory(tmp_path: Path) -> None:
    asked = "artifact.after_row,queue.after_claim:2"

    first, second = run(asked, tmp_path), run(asked, tmp_path)

    assert (first[:2], second[:2]) == ((-9, "2"), (0, "5"))
    assert crash_points.hits(tmp_path) == {"queue.after_claim"}


@pytest.mark.parametrize(
    ("crash_at", "said"),
    [
        ("queue.after_clam", "names 'queue.after_clam'; allowed are artifact.after_blob"),
        ("queue.after_claim:0", "after the colon a number from 1"),
        ("queue.after_claim:x", "after the colon a number from 1"),
        ("queue.after_claim,nowhere", "names 'nowhere'"),
    ],
)
def test_what_cannot_be_armed_is_refused(crash_at: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        arm_crash_points({"PAWL_CRASH_AT": crash_at})


def test_passing_costs_next_to_nothing_while_nothing_is_armed() -> None:
    passing = min(timeit.repeat(lambda: pass_crash_point("step.after_commit"), number=10_000))

    # 50 ns on the machine where it was written; a loaded one gets plenty of room.
    assert passing / 10_000 < 2e-6


def test_points_that_are_passed_are_those_that_exist() -> None:
    passed = set(_passed_points())

    assert passed <= set(CRASH_POINTS)
    assert {point for point in CRASH_POINTS if point not in passed} <= {
        "cancel.after_commit_before_kill",
        "lost.before_settle",
        "lost.after_settle",
    }


def _passed_points() -> Iterator[str]:
    for directory in ("libs", "services", "gateway"):
        for path in (ROOT / directory).rglob("*.py"):
            text = path.read_text()
            if "pass_crash_point(" not in text:
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "pass_crash_point":
                    yield ast.literal_eval(node.args[0])
