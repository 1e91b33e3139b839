"""What goes between host and guest, and what a guest does with anything else."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

import pytest

from services.executor.sandbox.model import FrameRefused
from tests.sandbox.guest_world import GuestWorld, ask, code_request
from tests.sandbox.process_table import processes_below
from tests.waiting import eventually

MEMBERS = {"v", "id", "ok", "stdout", "stderr", "cpu_ms", "max_rss_kib", "wall_ms"}


async def test_answer_has_the_members_of_its_kind(guests: GuestWorld) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); result = input_data"

    answer = await guests.run(code, input={"b": [1, None, 2.5], "a": "ä\x00"})

    assert set(answer) == MEMBERS | {"result"}
    assert (answer["v"], answer["id"], answer["ok"]) == (1, "1", True)
    assert answer["result"] == {"a": "ä\x00", "b": [1, None, 2.5]}
    assert (answer["stdout"], answer["stderr"]) == ("out\n", "err\n")
    assert answer["wall_ms"] < 5000 > answer["cpu_ms"]


async def test_error_has_the_members_of_its_kind(guests: GuestWorld) -> None:
    answer = await guests.run("print(1)\nraise ValueError('x')")

    assert set(answer) == MEMBERS | {"code", "error"}
    assert set(answer["error"]) == {"type", "message", "line", "traceback"}
    assert answer["stdout"] == "1\n"


async def test_end_by_signal_or_exit_is_told(guests: GuestWorld) -> None:
    crash = await guests.run("import os; os.abort()")
    end = await guests.run("import os; os._exit(7)")

    assert (crash["code"], crash["signal"]) == ("CRASHED", 6)
    assert (end["code"], end["exit"]) == ("NO_RESULT", 7)


async def test_output_before_the_end_is_kept(guests: GuestWorld) -> None:
    code = "import time; print('before', flush=True); time.sleep(99)"

    answer = await guests.run(code, wall_seconds=0.3)

    assert (answer["code"], answer["stdout"]) == ("WALL", "before\n")


async def test_output_that_is_no_text_is_replaced(guests: GuestWorld) -> None:
    answer = await guests.run("import os; os.write(1, b'a\\xff\\xe4')")

    assert answer["stdout"] == "a\ufffd\ufffd"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b"\xff",
        b"[" * 100_000,
        json.dumps(code_request("1") | {"v": 2}).encode(),
        json.dumps(code_request("1") | {"limits": {}}).encode(),
        json.dumps(code_request("1") | {"seed": "x"}).encode(),
    ],
    ids=["nothing", "empty", "array", "no-json", "no-text", "deep", "version", "limits", "seed"],
)
async def test_guest_ends_without_answer_to_what_is_no_request(
    guests: GuestWorld, body: bytes
) -> None:
    guest = await guests.start()

    async with asyncio.timeout(10):
        answer = await guest.ask(body, max_answer_bytes=1000)

    assert answer is None
    assert (await guest.death()).exit_code == 2


@pytest.mark.parametrize("changes", [{"now": 1e300}, {"file_bytes": 2**70}])
async def test_guest_that_cannot_be_set_up_runs_no_code(
    guests: GuestWorld, changes: dict[str, Any]
) -> None:
    answer = await guests.run("print('ran')", **changes)

    assert (answer["ok"], answer["code"], answer["stdout"]) == (False, "SANDBOX_ERROR", "")
    assert "OverflowError" in answer["error"]["message"]


async def test_answer_longer_than_allowed_is_refused(guests: GuestWorld) -> None:
    guest = await guests.start()

    with pytest.raises(FrameRefused):
        await guest.ask(json.dumps(code_request("result = 'x' * 99")).encode(), max_answer_bytes=99)


async def test_large_input_and_result_pass(guests: GuestWorld) -> None:
    text = "é" * 1_000_000

    found = await guests.result("result = [len(input_data), input_data[:100_000]]", input=text)

    assert found == [1_000_000, "é" * 100_000]


async def test_guest_answers_once(guests: GuestWorld) -> None:
    guest = await guests.start()

    first = await ask(guest, code_request("result = 1"))
    second = await ask(guest, code_request("result = 2"))

    assert first is not None
    assert second is None
    assert (await guest.death()).exit_code == 0


async def test_guest_that_has_ended_says_so(guests: GuestWorld) -> None:
    guest = await guests.start()
    assert guest.is_alive

    await guest.ask(b"nonsense", max_answer_bytes=99)
    await guest.death()

    await eventually(lambda: not guest.is_alive)


async def test_next_guest_finds_nothing_of_the_one_before(guests: GuestWorld) -> None:
    await guests.run("open('/tmp/x', 'w').write('1'); open('/tmp/y', 'w').close()")

    assert await guests.result("import os; result = os.listdir('/tmp')") == []


async def test_removal_ends_what_runs(guests: GuestWorld) -> None:
    before = processes_below(os.getpid())
    guest = await guests.start()
    asking = asyncio.create_task(ask(guest, code_request("while True: pass")))
    await asyncio.sleep(0)

    await guest.remove()

    assert await asking is None
    assert processes_below(os.getpid()) <= before


async def test_cancelled_question_leaves_a_guest_to_remove(guests: GuestWorld) -> None:
    before = processes_below(os.getpid())
    guest = await guests.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await ask(guest, code_request("while True: pass"))

    began = time.monotonic()
    await guest.remove()
    await guest.remove()

    assert time.monotonic() - began < 5
    assert processes_below(os.getpid()) <= before


async def test_many_guests_live_side_by_side(guests: GuestWorld) -> None:
    found = await asyncio.gather(
        *(guests.result("result = input_data * 2", input=n) for n in range(6))
    )

    assert found == [0, 2, 4, 6, 8, 10]


async def test_forged_result_at_the_edge_of_what_can_be_read_is_answered(
    guests: GuestWorld,
) -> None:
    """Whatever depth can still be read must be possible to write, or be no result."""
    for levels in range(964, 1000, 4):
        guest = await guests.start()
        nested = f"b'[' * {levels} + b']' * {levels}"
        code = (
            f'import os\nos.write(63, b\'{{"ok":true,"result":\' + {nested} + b"}}")\nos._exit(0)'
        )

        async with asyncio.timeout(10):
            answer = await guest.ask(json.dumps(code_request(code)).encode(), max_answer_bytes=9999)

        assert answer is not None, levels
        await guest.remove()
