"""Recorded runs run again, without a server.

As recorded, on any machine: what asked the network, and code whose exact sandbox is not here, is
answered by the stand-ins that the executor uses for that; everything else runs. Live, where this
machine has the very sandbox that a run was recorded with: then the code runs too, at the time of
the run.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from libs.core.comparison import Comparison, Field, compare_blocks
from libs.core.tool_spec import ToolRef
from services.executor.sandbox.docker import DockerOwner
from services.executor.sandbox.docker_address import DEFAULT_ADDRESS
from services.executor.sandbox.model import Sandbox, SandboxUnavailable
from services.executor.sandbox_choice import SandboxOpener, SandboxSettings
from services.executor.tools.python_sandbox import PythonSandboxTool
from services.executor.tools.registry import ToolRegistry
from tests.determinism.record import DIRECTORY, read_run, recorded_runs
from tests.determinism.replayed import Replayed, block_of, replay, tools_of
from tests.determinism.submissions import ENVIRONS
from tests.executor_world import make_registry
from tests.sandbox.docker_world import engine_or_skip

_SAME = Comparison(matches=True, first_divergence=None)
_PLANNED = [path for path in recorded_runs() if path.stem != "unplannable"]
_CODE = {name: more["PAWL_SANDBOX"] for name, more in ENVIRONS.items() if "PAWL_SANDBOX" in more}
_MARKS = {"docker": [pytest.mark.docker], "bubblewrap": [pytest.mark.bubblewrap], "monty": []}


def trace_of(name: str) -> dict[str, Any]:
    trace: dict[str, Any] = read_run(DIRECTORY / f"{name}.json")["trace"]
    return trace


async def replay_recorded(trace: dict[str, Any]) -> Replayed:
    """As a recorded replay, in a process that has no sandbox and no network."""
    registry = make_registry()
    stood_in = {spec.name for spec in registry.specs if spec.reaches_outside} | {"python_sandbox"}
    recorded = {ref for ref in tools_of(block_of(trace)) if ref.name in stood_in}
    _need_tools(registry, set(tools_of(block_of(trace))) - recorded)
    return await replay(trace, registry=registry, recorded=recorded)


@asynccontextmanager
async def sandbox_of(backend: str) -> AsyncIterator[Sandbox]:
    """This machine's sandbox of a kind. Skips where there is none."""
    engine = engine_or_skip() if backend == "docker" else DEFAULT_ADDRESS
    if backend == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("no bwrap; it is in the package bubblewrap")
    if backend == "monty":
        pytest.importorskip("pydantic_monty", reason="the package pydantic-monty is not installed")
    opener = SandboxOpener(
        settings=SandboxSettings(choice=backend, engine=engine, runtime="", guests=1),
        owner=DockerOwner(installation_id=f"test-{uuid4().hex[:12]}", executor_id="executor-1"),
        boot_id=lambda: "boot",
    )
    try:
        sandbox = await opener.open()
    except SandboxUnavailable as error:
        pytest.skip(f"no {backend}: {error}")
    try:
        yield sandbox
    finally:
        await sandbox.close()


@pytest.mark.parametrize("path", _PLANNED, ids=lambda path: path.stem)
async def test_a_recorded_replay_comes_to_the_same_on_any_machine(path: Path) -> None:
    trace = read_run(path)["trace"]

    replayed = await replay_recorded(trace)

    assert compare_blocks(block_of(trace), replayed.block) == _SAME
    assert replayed.block.task_hash == block_of(trace).task_hash


@pytest.mark.parametrize(
    ("name", "recalled"), [("code_docker", (1, 3)), ("fetch", (1,)), ("table", ()), ("report", ())]
)
async def test_only_code_and_requests_are_answered_from_the_record(
    name: str, recalled: tuple[int, ...]
) -> None:
    assert (await replay_recorded(trace_of(name))).recalled == recalled


async def test_a_record_that_was_changed_is_told_from_the_run() -> None:
    original = trace_of("fetch")
    changed = copy.deepcopy(original)
    changed["verification"]["steps"][0]["output"]["body"]["price"] = 9

    replayed = await replay_recorded(changed)

    divergence = compare_blocks(block_of(original), replayed.block).first_divergence
    assert divergence is not None
    assert (divergence.step_index, divergence.field) == (1, Field.OUTPUT)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=_MARKS[backend]) for name, backend in _CODE.items()]
)
async def test_a_live_replay_comes_to_the_same_where_the_sandbox_is_the_same(name: str) -> None:
    trace = trace_of(name)
    async with sandbox_of(_CODE[name]) as sandbox:
        tool = PythonSandboxTool(sandbox)
        registry = make_registry(tool)
        _need_tools(registry, tools_of(block_of(trace)), here=tool.spec.label)

        replayed = await replay(trace, registry=registry, recorded=())

    assert compare_blocks(block_of(trace), replayed.block) == _SAME
    assert replayed.recalled == ()


def _need_tools(registry: ToolRegistry, refs: Iterable[ToolRef], *, here: str = "") -> None:
    missing = sorted(ref.label for ref in refs if registry.find(ref) is None)
    if missing:
        pytest.skip(f"recorded with {', '.join(missing)}; here is {here or 'another version'}")
