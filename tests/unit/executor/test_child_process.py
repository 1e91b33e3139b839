"""Work in a process of its own: what it sees, how it is bounded, that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from libs.core.errors import FailureCode, StepFailed
from services.executor.tools.child_process import MAX_REQUEST_BYTES, ChildLimits, ChildProcesses
from tests.child_parent import LIMITS
from tests.executor_world import make_context
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]


async def do(act: str, limits: ChildLimits = LIMITS, **request: Any) -> Any:
    return await ChildProcesses().run(
        "tests.child_work", {"act": act, **request}, limits=limits, context=make_context()
    )


async def failure_of(act: str, limits: ChildLimits = LIMITS, **request: Any) -> StepFailed:
    with pytest.raises(StepFailed) as failed:
        await do(act, limits, **request)
    return failed.value


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    texts = [(task / "children").read_text() for task in tasks.iterdir()]
    return [int(child) for text in texts for child in text.split()]


def is_gone(pid: int) -> bool:
    """Whether nothing of a process runs any more; one that nobody has reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in {"Z", "X"}


def has_bound_itself(pid: int) -> bool:
    """Whether a child has come past its start: the limit on processor time is the last one."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return any(line.startswith("Max cpu time") and "unlimited" not in line for line in lines)


@contextmanager
def parent(act: str, *, seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.child_parent", act, str(seconds)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_a_request_comes_back_as_it_was() -> None:
    value = {"n": 2**60, "x": 1.0, "text": "ü\x00\ud7ff", "none": None, "list": [True, -0.0]}

    assert await do("echo", value=value) == {"act": "echo", "value": value}


async def test_a_child_has_its_own_session_no_files_and_a_bare_environment() -> None:
    os.environ["PAWL_TEST_SECRET"] = "x"
    try:
        seen = await do("surroundings")
    finally:
        del os.environ["PAWL_TEST_SECRET"]

    assert seen["session"] == seen["pid"]
    assert seen["cwd"] == "/"
    assert not [
        name for name in seen["env"] if not name.startswith(("PYTHON", "LC_", "TZ", "MALL"))
    ]
    # Standard streams, the way of the answer, and the directory that is being listed.
    assert len(seen["files"]) == 5
    assert seen["limits"] == [[2**30, 2**30], [60, 61]]


async def test_a_child_is_what_the_kernel_kills_when_memory_runs_out() -> None:
    seen = await do("surroundings")

    assert seen["killed_first"] == "1000"


@pytest.mark.parametrize(
    ("act", "code", "reason"),
    [
        ("fail", FailureCode.TOOL_ERROR, "ODD"),
        ("hungry", FailureCode.MEMORY_LIMIT, None),
        ("killed", FailureCode.MEMORY_LIMIT, None),
        ("break", FailureCode.CRASHED, None),
        ("nan", FailureCode.CRASHED, None),
        ("deep", FailureCode.CRASHED, None),
        ("segv", FailureCode.CRASHED, None),
        ("exit", FailureCode.CRASHED, None),
    ],
)
async def test_the_end_of_a_child_fails_the_step(
    act: str, code: FailureCode, reason: str | None
) -> None:
    failed = await failure_of(act, message="in words")

    assert (failed.code, failed.reason) == (code, reason)
    assert failed.message


async def test_an_unforeseen_error_names_its_place_and_not_its_text() -> None:
    failed = await failure_of("break")

    assert "KeyError in child_work.py:" in failed.message


async def test_an_answer_is_bounded() -> None:
    failed = await failure_of("large", replace(LIMITS, answer_bytes=1000), bytes=10_000_000)

    assert failed.code == FailureCode.OUTPUT_LIMIT
    assert "1000 bytes" in failed.message


async def test_a_request_is_bounded() -> None:
    failed = await failure_of("echo", text="x" * MAX_REQUEST_BYTES)

    assert (failed.code, failed.reason) == (FailureCode.TOOL_ERROR, "INPUT_LIMIT")


async def test_a_child_that_does_not_read_a_large_request_ends() -> None:
    with pytest.raises(StepFailed) as failed:
        await ChildProcesses().run(
            "tests.no_such_module", "x" * 10_000_000, limits=LIMITS, context=make_context()
        )

    assert "ModuleNotFoundError" in failed.value.message


async def test_time_on_the_wall_is_bounded() -> None:
    failed = await failure_of("sleep", replace(LIMITS, seconds=0.3))

    assert (failed.code, failed.reason) == (FailureCode.TIMEOUT, "WALL")


async def test_processor_time_is_bounded() -> None:
    failed = await failure_of("spin", replace(LIMITS, cpu_seconds=1))

    assert (failed.code, failed.reason) == (FailureCode.TIMEOUT, "CPU")


async def test_files_cannot_be_written(tmp_path: Path) -> None:
    await failure_of("write_file", path=str(tmp_path / "file"))

    assert (tmp_path / "file").read_bytes() == b""


async def test_a_cancelled_call_leaves_no_child() -> None:
    before = set(children_of(os.getpid()))
    call = asyncio.create_task(do("sleep"))
    await eventually(lambda: set(children_of(os.getpid())) - before)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert not set(children_of(os.getpid())) - before


async def test_no_more_children_run_at_once_than_allowed() -> None:
    processes = ChildProcesses(most=1)
    before = set(children_of(os.getpid()))
    calls = [
        asyncio.create_task(
            processes.run(
                "tests.child_work", {"act": "sleep"}, limits=LIMITS, context=make_context()
            )
        )
        for _ in range(3)
    ]
    await eventually(lambda: set(children_of(os.getpid())) - before)
    await asyncio.sleep(0.1)  # so long that a second one would have begun

    running = set(children_of(os.getpid())) - before
    for call in calls:
        call.cancel()
    ends = await asyncio.gather(*calls, return_exceptions=True)

    assert len(running) == 1
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)


async def test_a_tenant_finds_a_place_while_another_waits_for_more() -> None:
    processes = ChildProcesses(most=2)
    others = [
        asyncio.create_task(
            processes.run(
                "tests.child_work", {"act": "sleep"}, limits=LIMITS, context=make_context()
            )
        )
        for _ in range(3)
    ]
    await asyncio.sleep(0)
    context = replace(make_context(), tenant_id=UUID(int=7))

    answer = await processes.run(
        "tests.child_work", {"act": "echo"}, limits=LIMITS, context=context
    )

    assert answer == {"act": "echo"}
    assert not any(call.done() for call in others)
    for call in others:
        call.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("act", ["sleep", "spin"])
@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_killed_parent_leaves_no_child(act: str, *, has_begun: bool) -> None:
    with parent(act, seconds=60) as process:
        await eventually(lambda: process.poll() is not None or children_of(process.pid), timeout=20)
        [child] = children_of(process.pid)
        if has_begun:
            await eventually(lambda: has_bound_itself(child))

        process.kill()

        await eventually(lambda: is_gone(child), timeout=5)


async def test_a_parent_that_stands_still_does_not_prolong_a_child() -> None:
    with parent("sleep", seconds=0.5) as process:
        await eventually(lambda: process.poll() is not None or children_of(process.pid), timeout=20)
        [child] = children_of(process.pid)

        process.send_signal(signal.SIGSTOP)

        await eventually(lambda: is_gone(child), timeout=5)
