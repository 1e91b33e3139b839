"""What only Monty has: its own limits, its own errors, its own processes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from libs.core.canonical import canonical_text
from libs.core.errors import FailureCode, StepFailed
from services.executor.sandbox.model import CodeRequest, CodeResult, SandboxUnavailable
from services.executor.sandbox.monty import MontySandbox

pytest.importorskip("pydantic_monty", reason="the package pydantic-monty is not installed")

NOW = 1_767_323_045.0


@pytest_asyncio.fixture(scope="module")
async def sandbox() -> AsyncIterator[MontySandbox]:
    sandbox = await MontySandbox.open(processes=4)
    yield sandbox
    await sandbox.close()


def request(code: str, given: Any = None, *, seed: int = 7, wall: float = 2.0) -> CodeRequest:
    return CodeRequest(
        code=code, input_json=canonical_text(given), seed=seed, now=NOW, wall_seconds=wall
    )


async def run(sandbox: MontySandbox, code: str, given: Any = None) -> CodeResult:
    return await sandbox.run(request(code, given))


async def failure(sandbox: MontySandbox, code: str, *, wall: float = 1.0) -> StepFailed:
    with pytest.raises(StepFailed) as failed:
        await sandbox.run(request(code, wall=wall))
    return failed.value


async def test_code_reads_its_input_and_sets_its_result(sandbox: MontySandbox) -> None:
    code = (
        "import sys\nprint('seen')\nprint('odd', file=sys.stderr)\n"
        "result = {'sum': sum(input_data['n']), 'a': None}"
    )

    ran = await run(sandbox, code, {"n": [1, 2.5, 3]})

    assert ran == CodeResult(result_json='{"a":null,"sum":6.5}', stdout="seen\n", stderr="odd\n")
    assert (await run(sandbox, "x = 1")).result_json == "null"


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        ("while True: pass", FailureCode.TIMEOUT, "WALL"),
        ("import time\ntime.sleep(600)", FailureCode.TIMEOUT, "WALL"),
        ("x = 'a' * 10**10", FailureCode.MEMORY_LIMIT, None),
        ("x = []\nwhile True: x.append('y' * 1000)", FailureCode.MEMORY_LIMIT, None),
        ("x = 2 ** 10**9", FailureCode.MEMORY_LIMIT, None),
        ("while True: print('x' * 1000)", FailureCode.OUTPUT_LIMIT, "OUTPUT_TOO_LARGE"),
        ("print('x' * 131_073)", FailureCode.OUTPUT_LIMIT, "OUTPUT_TOO_LARGE"),
        ("result = 'x' * 300000", FailureCode.OUTPUT_LIMIT, "RESULT_TOO_LARGE"),
        ("def f(n): return f(n + 1)\nf(0)", FailureCode.CODE_ERROR, None),
        ("x = (", FailureCode.CODE_ERROR, None),
        ("x = " + "(" * 10_000, FailureCode.CODE_ERROR, None),
        ("result = {1, 2}", FailureCode.CODE_ERROR, None),
        ("result = {1: 2, '1': 3}", FailureCode.CODE_ERROR, None),
        ("a = []\nfor i in range(70): a = [a]\nresult = a", FailureCode.CODE_ERROR, None),
        ("result = float('nan')", FailureCode.CODE_ERROR, None),
        ("a = []\nfor i in range(100000): a = [a]\nresult = a", FailureCode.CODE_ERROR, None),
        ("open('/etc/passwd').read()", FailureCode.CODE_ERROR, None),
        ("import os\nresult = os.environ['PATH']", FailureCode.CODE_ERROR, None),
        ("import socket", FailureCode.CODE_ERROR, None),
        ("import subprocess", FailureCode.CODE_ERROR, None),
        ("().__class__.__base__.__subclasses__()", FailureCode.CODE_ERROR, None),
        ("raise MemoryError('memory of mine')", FailureCode.CODE_ERROR, None),
        ("raise TimeoutError('mine')", FailureCode.CODE_ERROR, None),
    ],
)
async def test_every_attack_ends_in_its_code(
    sandbox: MontySandbox, code: str, expected: FailureCode, reason: str | None
) -> None:
    began = time.monotonic()

    failed = await failure(sandbox, code)

    assert (failed.code, failed.reason) == (expected, reason), failed.message
    assert time.monotonic() - began < 4
    assert len(failed.message) < 10_000
    assert (await run(sandbox, "result = 1")).result_json == "1"


async def test_an_error_names_the_line_and_shows_the_code_alone(sandbox: MontySandbox) -> None:
    failed = await failure(sandbox, "def f(a):\n    return 1 / a\n\nf(0)")

    assert failed.message == (
        "ZeroDivisionError: division by zero (line 2)\n"
        "Traceback (most recent call last):\n"
        '  File "<step>", line 4, in <module>\n'
        '  File "<step>", line 2, in f'
    )
    no_json = await failure(sandbox, "result = {1}")
    assert no_json.message.startswith("result is no JSON: TypeError: ")


PROBE = """
import datetime, random, time
result = [random.random(), random.randint(0, 10**9), str(datetime.datetime.now()), time.time(),
          hash('a'), list({'x', 'y', 'z', 'w'}), time.strftime('%Z')]
print(result)
"""


async def test_the_same_request_gives_the_same_bytes(sandbox: MontySandbox) -> None:
    asked = request(PROBE)

    answers = {await sandbox.run(asked) for _ in range(5)}
    other_seed = await sandbox.run(request(PROBE, seed=8))

    assert len(answers) == 1
    (answer,) = answers
    assert json.loads(answer.result_json)[2:4] == ["2026-01-02 03:04:05", NOW]
    assert other_seed not in answers


async def test_nothing_is_left_of_a_run_for_the_next_one(sandbox: MontySandbox) -> None:
    await run(sandbox, "import random\nleft = 1\nrandom.seed(99)")

    assert "NameError" in (await failure(sandbox, "result = left")).message


async def test_what_code_spent_is_told_however_it_ended(sandbox: MontySandbox) -> None:
    told: list[float] = []
    await sandbox.run(request("result = 1"), spent=told.append)
    for code in ("1 / 0", "while True: pass"):
        with pytest.raises(StepFailed):
            await sandbox.run(request(code, wall=0.2), spent=told.append)

    assert len(told) == 3
    assert min(told) > 0
    assert 0.2 <= told[2] < 2.0


async def test_a_cancelled_run_is_over_at_once(sandbox: MontySandbox) -> None:
    running = asyncio.create_task(sandbox.run(request("while True: pass", wall=20.0)))
    await asyncio.sleep(0.3)
    began = time.monotonic()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert running.cancelled()
    assert time.monotonic() - began < 1


async def test_more_runs_than_places_take_turns(sandbox: MontySandbox) -> None:
    ran = await asyncio.gather(
        *(run(sandbox, "result = input_data * 2", number) for number in range(20))
    )

    assert [json.loads(one.result_json) for one in ran] == [number * 2 for number in range(20)]


async def test_what_is_too_large_is_refused_before_it_runs(sandbox: MontySandbox) -> None:
    failed = await failure(sandbox, "#" * (256 * 1024 + 1))

    assert (failed.code, failed.reason) == (FailureCode.INPUT_SCHEMA, "TOO_LARGE")


@pytest.mark.parametrize(
    ("code", "result_json"),
    [
        ("result = {7: 2, '2': 3, None: 4, True: 5}", '{"2":3,"7":2,"null":4,"true":5}'),
        ("result = {'b': 'ü\\0', 'a': (1, 1e16)}", '{"a":[1,1e+16],"b":"ü\\u0000"}'),
        # A guest refuses it; here no text can hold half a surrogate pair.
        ("result = '\\ud800'", '"\N{REPLACEMENT CHARACTER}"'),
    ],
)
async def test_results_are_written_as_a_guest_writes_them(
    sandbox: MontySandbox, code: str, result_json: str
) -> None:
    assert (await run(sandbox, code)).result_json == result_json


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("result = {1: 2, '1': 3}", "ValueError: result: two keys are written '1'"),
        ("result = 'x' * 300000", "result has more than 262144 bytes"),
        (
            "print('x' * 131_073)",
            "the code printed more than 131072 bytes to stdout or stderr",
        ),
        ("while True: pass", "STEP_TIMEOUT: the code took longer than 1 s"),
        ("#" * (256 * 1024 + 1), "code has 262145 bytes; 262144 are allowed"),
    ],
)
async def test_failures_are_told_as_of_a_guest(
    sandbox: MontySandbox, code: str, message: str
) -> None:
    assert (await failure(sandbox, code)).message == message


class PoolThatFails:
    """A pool of Monty that opens, and whose first run fails."""

    error: Exception
    open = 0

    def __init__(self, **_: object) -> None:
        """Whatever it is given."""

    async def __aenter__(self) -> None:
        type(self).open += 1

    async def __aexit__(self, *_: object) -> None:
        type(self).open -= 1

    def checkout(self, **_: object) -> object:
        raise self.error


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError("no process"), SandboxUnavailable), (KeyError("odd"), KeyError)],
)
async def test_a_pool_whose_first_run_fails_is_closed(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    monkeypatch.setattr("pydantic_monty.AsyncMonty", PoolThatFails)
    monkeypatch.setattr(PoolThatFails, "error", error, raising=False)

    with pytest.raises(raised):
        await MontySandbox.open(processes=1)

    assert PoolThatFails.open == 0
