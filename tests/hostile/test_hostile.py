"""Every hostile case that can run, against a whole running Pawl."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from libs.cli.up import ready_file
from libs.net.egress_rules import ALLOW_SETTING
from tests.e2e.ups import REAL, end, start_up
from tests.hostile.attacks import RUNNABLE, SANDBOX_OP, attack
from tests.hostile.canary import listening
from tests.hostile.case_files import AREAS, Case, all_cases, cases_of
from tests.hostile.not_built import NOT_BUILT
from tests.hostile.target import Target, target_of
from tests.stacks import StackEnvirons

GROWTH_BYTES = 50 * 2**20
RUNNING = [case for case in all_cases() if case.id not in NOT_BUILT and case.op != SANDBOX_OP]

pytestmark = pytest.mark.e2e


@pytest_asyncio.fixture(scope="module")
async def target(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons
) -> AsyncIterator[Target]:
    """A running Pawl: the one that PAWL_TEST_READY_FILE names, or a new one."""
    named = os.environ.get("PAWL_TEST_READY_FILE")
    async with listening() as canary:
        if named:
            ready = ready_file.read(Path(named))
            assert ready is not None, f"nothing runs that wrote {named}"
            async with target_of(ready, canary) as target:
                yield target
            return
        data_dir = tmp_path_factory.mktemp("hostile") / "data"
        # Its port is allowed, so that only the rules of hosts and addresses keep the canary alone.
        env = environs.bus() | {ALLOW_SETTING: f"*:{canary.port}"}
        up = start_up(data_dir, "--port", "0", program=REAL, env=env)
        try:
            async with target_of(await up.ready(), canary) as target:
                yield target
        finally:
            await end(up)


def test_the_cases_that_are_not_run_are_exactly_those_not_built() -> None:
    known = [case.id for case in all_cases()]

    assert len(known) == len(set(known))
    assert set(NOT_BUILT) <= set(known)
    assert {case.op for case in cases_of("sandbox_code")} == {SANDBOX_OP}
    assert {case.op for case in RUNNING} <= set(RUNNABLE)
    assert not [case.id for case in all_cases() if case.id in NOT_BUILT and case.op in RUNNABLE]


@pytest.mark.parametrize("case", RUNNING, ids=lambda case: case.id)
async def test_hostile(case: Case, target: Target) -> None:
    await attack(case, target)


@pytest.mark.parametrize("area", sorted(set(AREAS) - {"sandbox_code"}))
async def test_memory_stays(area: str, target: Target) -> None:
    cases = [case for case in cases_of(area) if case.id not in NOT_BUILT]
    before = target.resident_bytes()

    for case in cases:
        await attack(case, target)

    assert target.resident_bytes() - before < GROWTH_BYTES
