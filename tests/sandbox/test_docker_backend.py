"""Guests in real containers: how they are shut in, how they end, what is left of them."""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.executor.sandbox.docker_config import BOOT_LABEL, EXECUTOR_LABEL, INSTALLATION_LABEL
from services.executor.sandbox.model import Death, FrameRefused
from tests.sandbox.docker_world import STUB, DockerWorld, docker_world, engine_or_skip, said
from tests.waiting import eventually

pytestmark = pytest.mark.docker

KILLED = Death(is_out_of_memory=False, exit_code=137)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[DockerWorld]:
    async with docker_world(engine_or_skip()) as world:
        yield world


async def test_identity_names_the_image_and_the_guest(world: DockerWorld) -> None:
    identity = await world.backend.prepare()

    image = world.client.images.get(f"pawl-sandbox:{STUB.version}")
    assert identity.backend == "docker"
    assert re.fullmatch(r"3\.1\d\.\d+", identity.python)
    assert identity.build == f"{image.id.removeprefix('sha256:')[:12]}.{STUB.version}"
    assert re.fullmatch(r"[0-9a-z.]{1,32}", identity.build)


async def test_every_container_has_the_one_configuration(world: DockerWorld) -> None:
    guest = await world.guest("boot-1")

    found = world.inspect(guest.name)
    host, config = found["HostConfig"], found["Config"]
    assert {name: host[name] for name in HARDENED} == HARDENED
    assert {name: config[name] for name in CONFIGURED} == CONFIGURED
    assert host["Tmpfs"].keys() == {"/tmp"}
    assert {"noexec", "nosuid", "nodev", "size=16777216", "nr_inodes=1024"} <= set(
        host["Tmpfs"]["/tmp"].split(",")
    )
    assert not host["Binds"]
    assert not host["Devices"]
    assert not host["CapAdd"]
    assert config["Image"].startswith("sha256:")
    assert config["Labels"] | OWN_LABELS == config["Labels"]
    assert config["Labels"][INSTALLATION_LABEL] == world.installation_id
    assert found["NetworkSettings"]["Networks"].keys() <= {"none"}


HARDENED: dict[str, Any] = {
    "Privileged": False,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "ReadonlyRootfs": True,
    "NetworkMode": "none",
    "IpcMode": "none",
    "PidMode": "",
    "UTSMode": "",
    "UsernsMode": "",
    "CgroupnsMode": "private",
    "PidsLimit": 64,
    "Memory": 256 * 2**20,
    "MemorySwap": 256 * 2**20,
    "NanoCpus": 10**9,
    "LogConfig": {"Type": "none", "Config": {}},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "AutoRemove": False,
    "PublishAllPorts": False,
    "Ulimits": [
        {"Name": "core", "Soft": 0, "Hard": 0},
        {"Name": "nofile", "Soft": 256, "Hard": 256},
    ],
}
CONFIGURED: dict[str, Any] = {
    "User": "65534:65534",
    "Hostname": "sandbox",
    "Tty": False,
    "OpenStdin": True,
    "StdinOnce": True,
    "NetworkDisabled": True,
    "StopSignal": "SIGKILL",
    "WorkingDir": "/tmp",
    "Entrypoint": ["python3", "-s", "-B", "/sandbox/guest"],
    "Volumes": None,
}
OWN_LABELS = {EXECUTOR_LABEL: "executor-1", BOOT_LABEL: "boot-1"}


async def test_inside_nothing_is_allowed(world: DockerWorld) -> None:
    found = await said(await world.guest(), do="look")

    assert {name: found[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {
        "CapEff": "0" * 16,
        "CapPrm": "0" * 16,
        "CapBnd": "0" * 16,
    }
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert found["Uid"].split() == found["Gid"].split() == ["65534"] * 4
    assert found["writable"] == []
    assert {"noexec", "nosuid", "nodev", "size=16384k", "nr_inodes=1024"} <= set(
        found["tmp"].split(",")
    )
    assert found["interfaces"] == ["lo"]
    assert found["shm"] is False
    assert found["setuid"] == []
    assert found["host"] == "sandbox"


async def test_no_setting_of_the_owner_reaches_a_container(
    world: DockerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://owner:secret@proxy:3128")
    monkeypatch.setenv("PAWL_API_KEY", "secret")

    found = await said(await world.guest(), do="look")

    assert found["environ"].items() >= {"PYTHONHASHSEED": "0", "TZ": "UTC", "HOME": "/tmp"}.items()
    assert "secret" not in str(found["environ"])


async def test_each_guest_has_a_tmp_of_its_own(world: DockerWorld) -> None:
    await said(await world.guest(), do="look")

    found = await said(await world.guest(), do="look")

    assert found["left"] == ["left"]


async def test_what_is_printed_leaves_no_log_on_the_host(world: DockerWorld) -> None:
    guest = await world.guest()
    with pytest.raises(FrameRefused):
        await said(guest, do="flood", fd=1)

    assert world.inspect(guest.name)["LogPath"] == ""
    await guest.remove()
    assert world.containers() == []


async def test_a_flood_of_stderr_is_kept_to_its_bound(world: DockerWorld) -> None:
    guest = await world.guest()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await said(guest, do="flood", fd=2)

    assert len(guest.complaints) == 64 * 2**10


async def test_large_frames_go_both_ways(world: DockerWorld) -> None:
    text = "ä" * 150_000

    answer = await said(await world.guest(), do="echo", text=text)

    assert answer["text"] == text


async def test_out_of_memory_is_told_from_other_deaths(world: DockerWorld) -> None:
    guest = await world.guest()

    assert await said(guest, do="eat") is None
    assert await guest.death() == Death(is_out_of_memory=True, exit_code=137)


@pytest.mark.parametrize("code", [0, 3, 137])
async def test_an_end_without_an_answer_has_its_code(world: DockerWorld, code: int) -> None:
    guest = await world.guest()

    assert await said(guest, do="exit", code=code) is None
    assert await guest.death() == Death(is_out_of_memory=False, exit_code=code)


async def test_a_kill_by_hand_is_a_death_that_nobody_explains(world: DockerWorld) -> None:
    guest = await world.guest()
    asking = asyncio.create_task(said(guest, do="sleep"))
    await asyncio.to_thread(world.client.api.kill, guest.name)

    assert await asking is None
    assert await guest.death() == KILLED


async def test_a_paused_guest_is_removed(world: DockerWorld) -> None:
    guest = await world.guest()
    await asyncio.to_thread(world.client.api.pause, guest.name)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await said(guest, do="echo")

    began = time.monotonic()
    await guest.remove()

    assert time.monotonic() - began < 2
    assert world.containers() == []


FORGED = struct.pack(">BxxxI", 2, 4) + b"lies" + struct.pack(">BxxxI", 1, 8)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], None),
        ([struct.pack(">I", 2) + b"{}"], b"{}"),
        ([b"00"[:0], struct.pack(">I", 2), b"{", b"}"], b"{}"),
        # Headers as the engine writes them, from inside: bytes of a frame like any other.
        ([struct.pack(">I", len(FORGED)) + FORGED], FORGED),
        ([struct.pack(">I", 0)], b""),
    ],
)
async def test_frames_arrive_however_they_are_written(
    world: DockerWorld, pieces: list[bytes], expected: bytes | None
) -> None:
    guest = await world.guest()
    request = f'{{"do": "write", "pieces": {[p.hex() for p in pieces]}}}'.replace("'", '"')

    assert await guest.ask(request.encode(), max_answer_bytes=1000) == expected


@pytest.mark.parametrize(
    "garbage",
    [
        FORGED,
        b"\xff" * 100,
        b"Traceback (most recent call last):\n",
        struct.pack(">I", 1001) + b"x" * 1001,
    ],
)
async def test_what_is_no_frame_is_refused(world: DockerWorld, garbage: bytes) -> None:
    guest = await world.guest()
    request = f'{{"do": "write", "pieces": ["{garbage.hex()}"]}}'

    with pytest.raises(FrameRefused):
        await guest.ask(request.encode(), max_answer_bytes=1000)


async def test_boots_are_listed_and_removed_of_the_own_installation_alone(
    world: DockerWorld,
) -> None:
    async with docker_world(engine_or_skip()) as other:
        await other.guest("boot-1")
        for boot in ("boot-1", "boot-1", "boot-2"):
            await world.guest(boot)

        assert await world.backend.boots() == {"boot-1", "boot-2"}
        assert await world.backend.remove({"boot-1", "unknown"}) == 2
        assert await world.backend.boots() == {"boot-2"}
        assert await other.backend.boots() == {"boot-1"}


async def test_a_removed_guest_was_killed_at_once(world: DockerWorld) -> None:
    guest = await world.guest()
    asking = asyncio.create_task(said(guest, do="sleep"))
    await eventually(lambda: world.containers(running=True) == [guest.name])

    assert await world.backend.remove({"boot"}) == 1

    assert await asking is None
    await guest.remove()
    assert world.containers() == []


async def test_a_start_that_is_given_up_leaves_nothing(world: DockerWorld) -> None:
    for milliseconds in (1, 20, 50, 80, 110):
        starting = asyncio.create_task(world.backend.start("boot"))
        await asyncio.wait({starting}, timeout=milliseconds / 1000)
        starting.cancel()
        await asyncio.wait({starting})
        if not starting.cancelled():
            await starting.result().remove()

    await eventually(lambda: world.containers() == [])


async def test_a_removal_goes_on_when_its_caller_is_cancelled(world: DockerWorld) -> None:
    guest = await world.guest()

    removing = asyncio.create_task(guest.remove())
    await asyncio.sleep(0)
    removing.cancel()

    await eventually(lambda: world.containers() == [])


async def test_waiting_guests_need_no_thread(world: DockerWorld) -> None:
    guests = [await world.guest() for _ in range(3)]
    before = threads()

    asking = [asyncio.create_task(said(guest, do="sleep")) for guest in guests]
    await asyncio.sleep(0)

    assert threads() <= before
    for task in asking:
        task.cancel()


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


async def test_an_engine_behind_tcp_serves_as_well() -> None:
    path = engine_or_skip().removeprefix("unix://")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, engine_writer), pump(engine_reader, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with docker_world(engine_or_skip(), via=f"tcp://127.0.0.1:{port}") as world:
            assert await said(await world.guest(), do="echo") == {"do": "echo"}


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
