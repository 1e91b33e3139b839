"""The same submission gives the same hashes: again, in another order, after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack, running_stack
from libs.core.canonical import doubles
from libs.core.comparison import Comparison, compare_blocks
from libs.core.recorded_trace import read_trace
from libs.core.verification import verify
from tests.determinism.record import missing_tools, read_run, recorded_runs
from tests.determinism.reimplementation import hashes_of, recorded_hashes
from tests.determinism.submissions import ENVIRONS
from tests.e2e.tasks import (
    CHAIN,
    FAILING,
    UNPLANNABLE,
    UNRESOLVED,
    WAITING,
    hashes,
    run_and_trace,
)
from tests.stacks import StackEnvirons

pytestmark = pytest.mark.e2e

_REPEATED = [path for path in recorded_runs() if path.stem not in ENVIRONS]
"""Those of a plain Pawl; the others run again in tests/determinism/test_replayed.py."""
_TEXT = {"task_definition": {"text": "One thing. Another thing follows it. A third ends it."}}
_TOPIC = {"task_definition": {"topic": "Summarize weekly release notes"}, "max_steps": 12}


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reordered(value[key]) for key in reversed(value)}
    return [_reordered(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("body", [CHAIN, FAILING, UNRESOLVED, UNPLANNABLE, _TEXT, _TOPIC])
def test_the_same_submission_gives_the_same_hashes_in_any_key_order(
    client: Client, body: dict[str, Any]
) -> None:
    first = run_and_trace(client, body)
    second = run_and_trace(client, _reordered(body))

    assert first["task_id"] != second["task_id"]
    assert hashes(first) == hashes(second)


def test_other_limits_or_another_input_give_other_hashes(client: Client) -> None:
    first = run_and_trace(client, CHAIN)
    other_limits = run_and_trace(client, CHAIN | {"max_steps": 11})
    other_input = run_and_trace(client, CHAIN | {"task_definition": {"a": 5, "b": [1, 2.5]}})

    assert len({hashes(first), hashes(other_limits), hashes(other_input)}) == 3


@pytest.mark.parametrize("body", [CHAIN, FAILING, UNRESOLVED, UNPLANNABLE, WAITING, _TOPIC])
def test_the_program_written_from_the_page_gives_the_hashes_of_real_traces(
    any_stack: Stack, body: dict[str, Any]
) -> None:
    block = run_and_trace(Client(any_stack.server), body)["verification"]

    assert hashes_of(block) == recorded_hashes(block)


def test_both_kinds_of_database_give_the_same_hashes(stack: Stack, system_stack: Stack) -> None:
    one = run_and_trace(Client(stack.server), CHAIN)
    other = run_and_trace(Client(system_stack.server), CHAIN)

    assert hashes(one) == hashes(other)


def test_hashes_and_traces_survive_a_restart(tmp_path: Path, environs: StackEnvirons) -> None:
    environ = environs.fresh()
    with running_stack(tmp_path / "data", environ=environ) as stack:
        before = run_and_trace(Client(stack.server), CHAIN)
    with running_stack(tmp_path / "data", environ=environ) as stack:
        client = Client(stack.server)
        kept = client.get(f"/api/v1/tasks/{before['task_id']}/trace")
        after = run_and_trace(client, CHAIN)

    assert kept == before
    assert hashes(after) == hashes(before)


@pytest.mark.parametrize("path", _REPEATED, ids=lambda path: path.stem)
def test_a_recorded_run_still_verifies_and_gives_the_same_hashes(
    client: Client, path: Path
) -> None:
    """A failure here says that a tool, a plan or the recipe changed without a new version."""
    recorded = read_run(path)
    _need_tools(client, recorded["trace"])

    now = run_and_trace(client, recorded["submission"])

    assert verify(recorded["trace"]).holds
    assert hashes(now) == hashes(recorded["trace"])


@pytest.mark.parametrize("path", _REPEATED, ids=lambda path: path.stem)
def test_the_frozen_plan_of_a_recorded_run_runs_to_the_same(client: Client, path: Path) -> None:
    recorded = read_run(path)["trace"]
    _need_tools(client, recorded)
    # A trace spells the double 1e16 as an integer, which a submission may not.
    block: Any = doubles(recorded["verification"])
    frozen = {} if block["plan"] is None else {"plan": block["plan"]}

    now = run_and_trace(client, {"task_definition": block["task_input"]} | frozen)

    comparison = compare_blocks(read_trace(recorded).block, read_trace(now).block)
    assert comparison == Comparison(matches=True, first_divergence=None)
    assert hashes(now) == hashes(recorded)


def _need_tools(client: Client, trace: dict[str, Any]) -> None:
    if missing := missing_tools(client, trace):
        pytest.skip(f"recorded with {', '.join(missing)}, which no executor offers here")
