"""The bubblewrap backend: what it needs, what it says it is; nothing outlives its owner."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import time
from pathlib import Path

import pytest

from services.executor.sandbox.bubblewrap import BubblewrapBackend
from services.executor.sandbox.guest_files import guest_version
from services.executor.sandbox.model import SandboxUnavailable
from tests.sandbox.guest_world import Backends, GuestWorld, ask, code_request
from tests.sandbox.process_table import processes_below, still_running
from tests.waiting import eventually

pytestmark = pytest.mark.bubblewrap

_LEFT_OPEN = """
import os
result = sorted(os.readlink(f"/proc/self/fd/{n}").partition(":")[0] for n in range(4, 63)
                if os.path.islink(f"/proc/self/fd/{n}"))
"""


@pytest.fixture
async def world(backends: Backends) -> GuestWorld:
    return await backends.world("bubblewrap")


async def test_identity_says_which_python_and_which_guest(world: GuestWorld) -> None:
    again = await BubblewrapBackend().prepare()

    assert again == world.identity
    assert again.backend == "bubblewrap"
    assert re.fullmatch(r"3\.\d+\.\d+\S*", again.python)
    assert re.fullmatch(guest_version() + r"\.[0-9a-f]{8}", again.build)


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"bwrap": "no-such-bwrap"}, "no no-such-bwrap; it is in the package bubblewrap"),
        ({"bwrap": "/bin/false"}, "starts no guest: it ended: exit code 1"),
        ({"bwrap": "/bin/cat"}, "starts no guest: /bin/cat: unrecognized option"),
        ({"python": "/usr/bin/no-such-python"}, "no /usr/bin/no-such-python for guests"),
        ({"python": "/usr/bin/env"}, "starts no guest: /usr/bin/env: invalid option"),
        ({"python": "/bin/echo"}, "said something else than ready"),
    ],
)
async def test_what_is_missing_is_told(needs: dict[str, str], said: str) -> None:
    before = processes_below(os.getpid())

    with pytest.raises(SandboxUnavailable, match=re.escape(said)):
        await BubblewrapBackend(**needs).prepare()

    assert processes_below(os.getpid()) <= before


@pytest.mark.usefixtures("world")
async def test_user_namespaces_that_are_off_are_told(tmp_path: Path) -> None:
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho bwrap: No permissions to create new namespace >&2; exit 1\n")
    bwrap.chmod(0o755)
    for place in [tmp_path, *tmp_path.parents][:-2]:
        place.chmod(0o755)

    with pytest.raises(SandboxUnavailable, match="No permissions to create new namespace"):
        await BubblewrapBackend(bwrap=str(bwrap)).prepare()


async def test_a_guest_is_not_to_be_had_before_all_is_ready() -> None:
    with pytest.raises(SandboxUnavailable, match="not prepared"):
        await BubblewrapBackend().start("boot")


async def test_nothing_is_found_of_executors_that_are_gone(world: GuestWorld) -> None:
    await world.start()

    assert await world.backend.boots() == frozenset()
    assert await world.backend.remove({"boot"}) == 0


async def test_guest_inherits_no_open_file(world: GuestWorld, tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as left_open:
        os.set_inheritable(left_open.fileno(), True)

        assert await world.result(_LEFT_OPEN) == []


@pytest.mark.usefixtures("world")
async def test_killed_owner_leaves_nothing_that_runs() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.sandbox.bubblewrap_owner"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    # Two of bwrap, two keepers, one child.
    await eventually(lambda: len(processes_below(process.pid)) == 5)
    running = processes_below(process.pid)

    process.kill()
    await process.wait()

    await eventually(lambda: still_running(running) == set(), timeout=5)


async def test_end_of_input_ends_a_guest(world: GuestWorld) -> None:
    before = processes_below(os.getpid())
    idle, busy = await world.start(), await world.start()
    asking = asyncio.create_task(ask(busy, code_request("while True: pass")))
    await eventually(lambda: len(processes_below(os.getpid()) - before) == 5)

    for guest in (idle, busy):
        guest._process.stdin.close()  # type: ignore[attr-defined]

    assert await asking is None
    assert [(await guest.death()).exit_code for guest in (idle, busy)] == [0, 0]
    assert processes_below(os.getpid()) <= before


async def test_ready_guest_answers_within_milliseconds(world: GuestWorld) -> None:
    seconds = []
    for _ in range(10):
        guest = await world.start()
        began = time.perf_counter()
        await ask(guest, code_request("result = 1"))
        seconds.append(time.perf_counter() - began)
        await guest.remove()

    assert statistics.median(seconds) < 0.06
