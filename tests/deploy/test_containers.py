"""Pawl in containers, from nothing: what `make compose-up` starts, scaled, stopped in parts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from libs.cli.client import Client, Refused, Unreachable
from services.executor.sandbox.model import MIB
from tests.compose_stack import IMAGE, ComposeStack, compose_stack
from tests.e2e.tasks import CHAIN, EXECUTE, finished, trace_of
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SOCKET = "/var/run/docker.sock"
OURS = ("auth", "planner", "scheduler", "executor", "artifact", "gateway", "sandbox")
LOOK = """
import importlib.util, json, os, pathlib, shutil
find = importlib.util.find_spec
status = pathlib.Path("/proc/self/status").read_text().splitlines()
try:
    pathlib.Path("/opt/pawl/written").touch()
    root = "writable"
except OSError as error:
    root = error.strerror
print(json.dumps({
    "uid": os.getuid(),
    "root": root,
    "tools": [name for name in ("pip", "pip3", "gcc", "cc", "make") if shutil.which(name)],
    "modules": [name for name in ("pip", "setuptools", "ensurepip") if find(name)],
    "given": sorted(path.name for path in pathlib.Path("/run/pawl").iterdir()),
    "rights": next(line.split()[1] for line in status if line.startswith("CapEff")),
}))
"""


def code(text: str) -> dict[str, Any]:
    """A task of one code step."""
    step = {"step_index": 1, "tool": "python_sandbox", "input": {"code": text}}
    return {"task_definition": {}, "plan": {"steps": [step]}}


SUM = code("result = sum(range(5))")
ENDLESS = code("while True: pass")


@pytest.fixture(scope="module")
def stack() -> Iterator[ComposeStack]:
    with compose_stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def client(stack: ComposeStack) -> Client:
    return stack.client()


def secrets_of(stack: ComposeStack) -> dict[str, str]:
    """A digest of every secret that a process was given, by service and file."""
    names = (*OURS, "postgres", "s3")
    return {
        name: stack.compose("exec", "-T", name, "sh", "-c", "sha256sum /run/pawl/*")
        for name in names
    }


def connected(stack: ComposeStack) -> set[str]:
    """The names of all executors that any scheduler has let in."""
    logs = stack.compose("logs", "--no-color", "scheduler")
    lines = (line for line in logs.splitlines() if '"executor connected"' in line)
    return {re.search(r'"executor_id":"([^"]+)"', line)[1] for line in lines}  # type: ignore[index]


def succeeds(client: Client) -> bool:
    """Whether a task is taken now and succeeds."""
    try:
        return bool(finished(client, CHAIN)["status"] == "succeeded")
    except (Refused, Unreachable):
        return False


def runs_code(client: Client) -> bool:
    """Whether code steps are on offer, and one succeeds."""
    try:
        done = finished(client, SUM)
    except (Refused, Unreachable):
        return False
    return bool(done["status"] == "succeeded" and done["result"]["result"] == 10)


def busy(stack: ComposeStack, installation: str) -> list[str]:
    """The guests in which code runs: beside the keeper there is its child."""
    return [each for each in stack.guests(installation) if stack.processes(each) > 1]


def test_a_task_succeeds_through_the_published_port(client: Client) -> None:
    assert finished(client, CHAIN)["status"] == "succeeded"
    assert client.get("/readyz")["status"] == "ready"


def test_each_process_is_shut_in(stack: ComposeStack) -> None:
    identity = ["ca.crt", "public_keys.json", "service.jwk", "tls.crt", "tls.key"]
    own = {
        "auth": ["database_url"],
        "planner": ["database_url"],
        "scheduler": ["database_url"],
        "artifact": ["database_url", "s3_access_key", "s3_secret_key"],
    }

    seen = {
        name: json.loads(stack.compose("exec", "-T", name, "python", "-c", LOOK)) for name in OURS
    }

    assert seen == {
        name: {
            "uid": 65532,
            "root": "Read-only file system",
            "tools": [],
            "modules": [],
            "given": sorted([*identity, *own.get(name, [])]),
            "rights": "0000000000000000",
        }
        for name in OURS
    }


def test_only_the_gateway_can_be_reached_from_outside(stack: ComposeStack) -> None:
    published = {
        name: [port for port in ports.values() if port]
        for name in (*OURS, "postgres", "kafka", "s3")
        for ports in [stack.inspect(stack.containers(name)[0])["NetworkSettings"]["Ports"]]
    }

    gateway = published.pop("gateway")
    assert [each["HostIp"] for (each,) in gateway] == ["127.0.0.1"]
    assert not any(published.values())


async def test_executors_are_added(stack: ComposeStack, client: Client) -> None:
    stack.compose("up", "--detach", "--scale", "executor=4")

    containers = {each[:12] for each in stack.containers("executor")}
    assert len(containers) == 4
    await eventually(lambda: containers <= connected(stack), timeout=60)
    assert succeeds(client)


def test_a_second_start_keeps_keys_and_tasks(stack: ComposeStack, client: Client) -> None:
    task = finished(client, CHAIN)
    before = secrets_of(stack)

    stack.compose("down")
    stack.script("up")

    assert secrets_of(stack) == before
    assert client.get(f"/api/v1/tasks/{task['task_id']}")["status"] == "succeeded"
    assert finished(client, CHAIN)["status"] == "succeeded"


@pytest.mark.parametrize("number", [0, 1])
async def test_one_scheduler_carries_on_alone(
    stack: ComposeStack, client: Client, number: int
) -> None:
    victim = sorted(stack.containers("scheduler"))[number]
    stack.docker("kill", victim)

    try:
        await eventually(lambda: succeeds(client), timeout=60)
        assert all(succeeds(client) for _ in range(3))
    finally:
        stack.docker("start", victim)
    await eventually(
        lambda: stack.inspect(victim)["State"]["Health"]["Status"] == "healthy", timeout=90
    )


async def test_a_service_that_moved_is_found_within_seconds(
    stack: ComposeStack, client: Client
) -> None:
    (before,) = stack.containers("auth")
    (gateway,) = stack.containers("gateway")
    (network,) = stack.inspect(gateway)["NetworkSettings"]["Networks"]
    stack.docker("rm", "--force", before)
    # Something else takes the address that it had.
    other = stack.docker("run", "--detach", "--rm", "--network", network, IMAGE, "sleep", "600")
    try:
        # What auth has said of a key is good for 5 s.
        await eventually(lambda: not succeeds(client), timeout=30)
        stack.compose("up", "--detach", "--no-deps", "auth")
        (after,) = stack.containers("auth")

        # gRPC by itself asks for an address again after 30 s.
        await eventually(lambda: succeeds(client), timeout=15)

        addresses = [
            stack.inspect(each)["NetworkSettings"]["Networks"][network]["IPAddress"]
            for each in (after, other.strip())
        ]
        assert addresses[0] != addresses[1]
    finally:
        stack.docker("rm", "--force", other.strip())


def test_the_demo_runs_in_a_container(stack: ComposeStack) -> None:
    said = stack.script("demo")

    assert "All came out as said" in said


async def test_code_of_a_step_runs_in_a_container(client: Client) -> None:
    assert await eventually(lambda: runs_code(client), timeout=60)

    (step,) = trace_of(client, finished(client, SUM)["task_id"])["steps"]
    offered = {tool["name"]: tool["version"] for tool in client.get("/v1/tools")["data"]}

    assert client.get("/readyz")["sandboxes"] == ["docker"]
    assert "+docker." in offered["python_sandbox"]
    assert step["tool_version"] == offered["python_sandbox"]


def test_only_the_sandbox_holds_the_engines_socket(stack: ComposeStack) -> None:
    holders = {
        name
        for name in (*OURS, "postgres", "kafka", "s3", "first", "migrate")
        for container in stack.containers(name)
        for mount in stack.inspect(container)["Mounts"]
        if mount["Type"] == "bind"
    }
    (sandbox,) = stack.containers("sandbox")
    found = stack.inspect(sandbox)

    assert holders == {"sandbox"}
    bound = [mount for mount in found["Mounts"] if mount["Type"] == "bind"]
    assert [(mount["Destination"], mount["RW"]) for mount in bound] == [(SOCKET, False)]
    assert found["HostConfig"]["Memory"] == 512 * MIB
    for guest in stack.guests(stack.installation()):
        assert stack.inspect(guest)["Mounts"] == []


async def test_a_sandbox_that_dies_loses_its_step_and_leaves_nothing(
    stack: ComposeStack, client: Client
) -> None:
    assert await eventually(lambda: runs_code(client), timeout=60)
    installation = stack.installation()
    task_id = client.post(EXECUTE, ENDLESS)["task_id"]
    path = f"/api/v1/tasks/{task_id}"
    await eventually(lambda: busy(stack, installation), timeout=30)
    before = stack.guests(installation)

    # From inside: what is killed by the engine's command is not started again.
    kill = "kill -9 $(cat /proc/1/task/1/children)"
    stack.compose("exec", "-T", "sandbox", "sh", "-c", kill)

    await eventually(lambda: not before & stack.guests(installation), timeout=15)
    await eventually(lambda: client.get(path)["status"] == "failed", timeout=30)
    assert client.get(path)["failure"]["code"] == "SANDBOX_LOST"
    names = [event["event"] for event in trace_of(client, task_id)["events"]]
    assert names.count("task.step_started") == 1
    assert await eventually(lambda: runs_code(client), timeout=60)


async def test_executors_that_die_take_their_code_along(
    stack: ComposeStack, client: Client
) -> None:
    assert await eventually(lambda: runs_code(client), timeout=60)
    installation = stack.installation()
    task_id = client.post(EXECUTE, ENDLESS)["task_id"]
    path = f"/api/v1/tasks/{task_id}"
    (guest,) = await eventually(lambda: busy(stack, installation), timeout=30)
    executors = stack.containers("executor")

    stack.docker("kill", *executors)
    try:
        await eventually(lambda: guest not in stack.guests(installation), timeout=5)
        await eventually(lambda: client.get(path)["status"] == "failed", timeout=30)
        assert client.get(path)["failure"]["code"] == "EXECUTOR_LOST"
    finally:
        stack.docker("start", *executors)
    assert await eventually(lambda: runs_code(client), timeout=60)


async def test_code_steps_are_refused_while_the_sandbox_is_away(
    stack: ComposeStack, client: Client
) -> None:
    assert await eventually(lambda: runs_code(client), timeout=60)
    stack.compose("stop", "sandbox")
    try:
        await eventually(lambda: client.get("/readyz")["sandboxes"] == [], timeout=30)
        with pytest.raises(Refused, match="python_sandbox") as refused:
            finished(client, SUM)
        assert refused.value.problem["code"] == "tool_unavailable"
        assert client.get("/readyz")["status"] == "ready"
        assert succeeds(client)
    finally:
        stack.compose("start", "sandbox")
    assert await eventually(lambda: runs_code(client), timeout=60)


async def test_what_a_killed_sandbox_left_goes_with_the_containers(
    stack: ComposeStack, client: Client
) -> None:
    assert await eventually(lambda: runs_code(client), timeout=60)
    installation = stack.installation()
    # By the engine's command, after which it stays away.
    stack.docker("kill", *stack.containers("sandbox"))
    assert stack.guests(installation)

    try:
        stack.script("down")

        assert stack.guests(installation) == set()
    finally:
        stack.script("up")
