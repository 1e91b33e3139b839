"""Pawl in containers, from nothing: what `make compose-up` starts, scaled, stopped in parts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from libs.cli.client import Client, Refused, Unreachable
from tests.compose_stack import IMAGE, ComposeStack, compose_stack
from tests.e2e.tasks import CHAIN, finished
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

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
