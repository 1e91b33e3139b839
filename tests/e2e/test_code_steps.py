"""Code steps on a whole Pawl, on each sandbox that this machine has, and on none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from libs.cli.client import Client, Refused
from libs.cli.stack import Stack, running_stack
from libs.core.sandboxes import SANDBOXES
from libs.core.verification import verify
from services.executor.sandbox.docker import DockerOwner
from services.executor.sandbox.docker_address import DEFAULT_ADDRESS
from services.executor.sandbox.model import SandboxUnavailable
from services.executor.sandbox_choice import SandboxOpener, SandboxSettings
from tests.e2e.tasks import EXECUTE, finished, hashes, run_and_trace, trace_of
from tests.sandbox.docker_world import engine_or_skip
from tests.stacks import StackEnvirons
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

_MARKS = {"docker": (pytest.mark.docker,), "bubblewrap": (pytest.mark.bubblewrap,)}

PRICES = """import random

def drawn(names):
    return random.choice(names)

result = {'total': sum(input_data['prices']), 'drawn': drawn(['a', 'b', 'c', 'd', 'e', 'f'])}
print('of', len(input_data['prices']))
"""
FAILING = """def share(n):
    return 1 / n

result = [share(1), share(0)]
"""
CLOCK = "from datetime import datetime, timezone\nresult = datetime.now(timezone.utc).isoformat()"


def code_plan(code: str, *more: tuple[str, Any], **input_data: Any) -> dict[str, Any]:
    """A submission whose first step is code; `more` are further steps (tool, input)."""
    given = {"input_data": input_data} if input_data else {}
    steps = [("python_sandbox", {"code": code, **given}), *more]
    listed = [
        {"step_index": index, "tool": tool, "input": value}
        for index, (tool, value) in enumerate(steps, start=1)
    ]
    return {"task_definition": {"prices": [2.5, 4]}, "plan": {"steps": listed}}


CHAIN = code_plan(
    PRICES,
    (
        "math",
        {"expression": "t * 2", "variables": {"t": {"$ref": "steps.1.output.result.total"}}},
    ),
    (
        "json_query",
        {
            "data": {
                "code": {"$ref": "steps.1.output"},
                "doubled": {"$ref": "steps.2.output.result"},
            },
            "query": "[code.result.total, doubled, code.stdout]",
        },
    ),
    prices={"$ref": "input.prices"},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """A running Pawl, and the name of the sandbox that it was told to use."""

    stack: Stack
    backend: str

    @property
    def client(self) -> Client:
        """A client with the operator's key."""
        return Client(self.stack.server)


@pytest_asyncio.fixture(
    scope="module", params=[pytest.param(name, marks=_MARKS.get(name, ())) for name in SANDBOXES]
)
async def coding(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    environs: StackEnvirons,
) -> AsyncIterator[Coding]:
    """`pawl up` with the sandbox of this name. Skips where this machine cannot have it."""
    backend: str = request.param
    await _have_or_skip(backend)
    data_dir = tmp_path_factory.mktemp(f"coding-{backend}") / "data"
    with running_stack(data_dir, environ=environs.fresh(PAWL_SANDBOX=backend)) as stack:
        yield Coding(stack=stack, backend=backend)


async def _have_or_skip(backend: str) -> None:
    opener = SandboxOpener(
        settings=SandboxSettings(
            choice=backend,
            engine=engine_or_skip() if backend == "docker" else DEFAULT_ADDRESS,
            runtime="",
            guests=1,
        ),
        owner=DockerOwner(installation_id="test-code-steps", executor_id="test"),
        boot_id=lambda: "test-code-steps",
    )
    try:
        sandbox = await opener.open()
    except SandboxUnavailable as error:
        pytest.skip(f"no sandbox: {error}")
    await sandbox.close()


def test_code_takes_from_the_input_and_gives_to_later_steps(coding: Coding) -> None:
    trace = run_and_trace(coding.client, CHAIN)

    task = coding.client.get(f"/api/v1/tasks/{trace['task_id']}")
    code, _, _ = trace["steps"]
    assert (task["status"], task["result"]) == ("succeeded", {"result": [6.5, 13, "of 2\n"]})
    assert code["input"]["input_data"] == {"prices": [2.5, 4]}
    assert code["output"]["stdout"] == "of 2\n"
    assert verify(trace).holds
    assert trace["summary"]["sandbox_runs"] == 1


def test_the_same_code_has_the_same_hashes(coding: Coding) -> None:
    one, other = (run_and_trace(coding.client, CHAIN) for _ in range(2))

    assert one["task_id"] != other["task_id"]
    assert one["steps"][0]["output"] == other["steps"][0]["output"]
    assert hashes(one) == hashes(other)


def test_an_exception_names_its_line_and_shows_the_callers_code_alone(coding: Coding) -> None:
    answer = finished(coding.client, code_plan(FAILING, ("math", {"expression": "1"})))

    trace = trace_of(coding.client, answer["task_id"])
    failure = trace["steps"][0]["failure"]
    first, _, traceback = failure["message"].partition("\n")
    files = [line.split(",")[0].strip() for line in traceback.splitlines() if "  File " in line]
    assert answer["status"] == "failed"
    assert (failure["step"], failure["index"], failure["code"]) == (
        "python_sandbox",
        1,
        "CODE_ERROR",
    )
    assert answer["failure"]["code"] == "CODE_ERROR"
    assert first == "ZeroDivisionError: division by zero (line 2)"
    assert "line 4, in <module>" in traceback
    assert "line 2, in share" in traceback
    assert files == ['File "<step>"', 'File "<step>"']
    assert [step["status"] for step in trace["steps"]] == ["failed"]
    assert verify(trace).holds


@pytest.mark.parametrize("code", [PRICES, FAILING, CLOCK], ids=["prices", "failing", "clock"])
def test_a_live_replay_of_code_matches(coding: Coding, code: str) -> None:
    client = coding.client
    original = run_and_trace(client, code_plan(code, prices=[1, 2]))

    answer = client.post(f"/api/v1/tasks/{original['task_id']}/replay?wait=25", {"mode": "live"})

    trace = trace_of(client, answer["task_id"])
    assert trace["replay"]["matches"] is True
    assert trace["steps"][0]["output"] == original["steps"][0]["output"]
    assert hashes(trace) == hashes(original)
    assert verify(trace).holds


async def test_pawl_says_which_sandbox_serves(coding: Coding) -> None:
    tools = {tool["name"]: tool for tool in coding.client.pages("/v1/tools")}

    version = tools["python_sandbox"]["version"]
    assert version.partition("+")[2].split(".")[0] == coding.backend
    assert f"\n  Code {coding.backend}\n" in _console(coding.stack)
    await eventually(lambda: coding.client.get("/readyz")["sandboxes"] == [coding.backend])


def test_without_a_sandbox_code_is_refused_at_submit(stack: Stack) -> None:
    """The stack of all tests has none."""
    client = Client(stack.server)

    with pytest.raises(Refused) as refused:
        client.post(EXECUTE, CHAIN)

    assert (refused.value.status, refused.value.code) == (422, "unknown_tool")
    (error,) = refused.value.problem["errors"]
    assert error["field"] == "plan.steps[0].tool"
    assert '"python_sandbox" was never registered by an executor' in error["detail"]
    assert client.get("/readyz")["sandboxes"] == []
    assert "\n  Code no sandbox, plans with code are refused\n" in _console(stack)


def _console(stack: Stack) -> str:
    return (stack.data_dir / "up.log").read_text()
