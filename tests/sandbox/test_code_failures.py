"""How code fails, as a step's failure: through the pool, on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.core.errors import FailureCode, StepFailed
from services.executor.sandbox.model import CodeRequest
from services.executor.sandbox.pool import PooledSandbox
from tests.sandbox.guest_world import NOW, SEED, GuestWorld
from tests.sandbox.lent_pool import lent_pool


@pytest_asyncio.fixture
async def sandbox(guests: GuestWorld) -> AsyncIterator[PooledSandbox]:
    async with lent_pool(guests) as sandbox:
        yield sandbox


def request(code: str, *, input_json: str = "null", wall_seconds: float = 10) -> CodeRequest:
    return CodeRequest(
        code=code, input_json=input_json, seed=SEED, now=NOW, wall_seconds=wall_seconds
    )


async def test_result_and_output_come_back(sandbox: PooledSandbox) -> None:
    code = "print('out'); result = {'b': input_data, 'a': 'é'}"

    found = await sandbox.run(request(code, input_json='{"x":[1.5,null]}'))

    assert found.result_json == '{"a":"é","b":{"x":[1.5,null]}}'
    assert (found.stdout, found.stderr) == ("out\n", "")


@pytest.mark.parametrize(
    ("code", "failure", "reason", "told"),
    [
        ("1 / 0", FailureCode.CODE_ERROR, None, "ZeroDivisionError: division by zero (line 1)"),
        ("x = (", FailureCode.CODE_ERROR, None, "SyntaxError: '(' was never closed (line 1)"),
        ("result = {1}", FailureCode.CODE_ERROR, None, "result: set cannot be written as JSON"),
        ("import os; os._exit(3)", FailureCode.CODE_ERROR, "NO_RESULT", "exit code 3"),
        ("import time; time.sleep(9)", FailureCode.TIMEOUT, "WALL", "longer than 1 s"),
        ("x = bytearray(10 ** 9)", FailureCode.MEMORY_LIMIT, None, "line 1"),
        ("while True: print('x' * 999)", FailureCode.OUTPUT_LIMIT, "OUTPUT_TOO_LARGE", "131072"),
        ("result = 'x' * 10 ** 6", FailureCode.OUTPUT_LIMIT, "RESULT_TOO_LARGE", "262144"),
        ("open('/tmp/x', 'wb').write(bytes(10 ** 7))", FailureCode.FILE_LIMIT, None, "too large"),
        ("import ctypes; ctypes.string_at(0)", FailureCode.CRASHED, None, "signal 11"),
        (
            "import os; os.kill(os.getpid(), 9)",
            FailureCode.SANDBOX_LOST,
            "KILLED",
            "killed",
        ),
    ],
)
async def test_failure_has_its_code(
    sandbox: PooledSandbox, code: str, failure: FailureCode, reason: str | None, told: str
) -> None:
    with pytest.raises(StepFailed) as caught:
        await sandbox.run(request(code, wall_seconds=1))

    assert (caught.value.code, caught.value.reason) == (failure, reason)
    assert told in str(caught.value)


async def test_guest_after_a_crash_is_a_new_one(sandbox: PooledSandbox) -> None:
    with pytest.raises(StepFailed):
        await sandbox.run(request("open('/tmp/x', 'w').close(); import os; os.abort()"))

    found = await sandbox.run(request("import os; result = os.listdir('/tmp')"))

    assert found.result_json == "[]"


async def test_nothing_of_code_reaches_the_code_after_it(sandbox: PooledSandbox) -> None:
    poison = (
        "import json, os, sys\nopen('/tmp/json.py', 'w').write('1 / 0')\n"
        "sys.path.insert(0, '/tmp'); sys.modules['re'] = None; json.dumps = None\n"
        "os.environ['PYTHONPATH'] = '/tmp'; os.umask(0o777); os.chdir('/usr')"
    )
    await sandbox.run(request(poison))

    found = await sandbox.run(
        request(
            "import json, os, re, sys\n"
            "result = [json.dumps(1), os.listdir('/tmp'), os.getcwd(), os.umask(0o22),"
            " '/tmp' in sys.path, 'PYTHONPATH' in os.environ]"
        )
    )

    assert found.result_json == '["1",[],"/tmp",18,false,false]'
