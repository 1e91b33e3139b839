"""The sandbox beside executors as a process, with real containers: what it runs, how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
import pytest
import pytest_asyncio
from docker.errors import APIError

from libs.core.errors import FailureCode, StepFailed
from libs.process.env import EXIT_BAD_CONFIG, EXIT_STOPPED
from libs.rpc.certs import make_certificates
from libs.rpc.client import RpcChannel
from libs.rpc.tokens import KeyRing, ServiceTokens, public_keys_file
from services.executor.sandbox.companion import CompanionSandbox
from services.executor.sandbox.docker_config import INSTALLATION_LABEL
from services.executor.sandbox.installation import installation_of
from services.executor.sandbox.model import CodeRequest
from tests.certificates import files_of
from tests.containers import free_port
from tests.sandbox.companion_world import BOOT
from tests.sandbox.docker_world import engine_or_skip
from tests.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

START_SECONDS = 45.0
GUESTS = 2
MODULE = "services.executor.companion"
REQUEST = CodeRequest(
    code="result = input_data['a'] + 1; print('done')",
    input_json='{"a":1}',
    seed=7,
    now=1.7e9,
    wall_seconds=10,
)
ENDLESS = replace(REQUEST, code="while True: pass", wall_seconds=60)


@dataclass(slots=True, kw_only=True)
class Companion:
    """An installation on disk, and the process when it was started."""

    environ: dict[str, str]
    port: int
    keys: KeyRing
    certs: Path
    client: Any
    label: str
    process: Process | None = None

    async def start(self) -> None:
        """Start the process."""
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", MODULE),
            env=self.environ,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return await self.process.wait()

    @asynccontextmanager
    async def executor(self) -> AsyncIterator[CompanionSandbox]:
        """An executor's way to it, once it serves."""
        tokens = ServiceTokens("executor", self.keys.private["executor"])
        channel = RpcChannel(
            f"127.0.0.1:{self.port}",
            audience="sandbox",
            tokens=tokens,
            tls=files_of(self.certs, "executor"),
        )
        sandbox = await CompanionSandbox.open(
            channel, boot_id=lambda: BOOT, connect_seconds=START_SECONDS
        )
        try:
            yield sandbox
        finally:
            await sandbox.close()

    def containers(self, *, running: bool = False) -> set[str]:
        """The ids of its containers."""
        found = self.client.api.containers(all=not running, filters={"label": [self.label]})
        return {each["Id"] for each in found}

    def busy(self) -> list[str]:
        """The ids of those in which code runs: beside the guest there is its child."""
        return [each for each in self.containers(running=True) if self._processes(each) > 1]

    def clear(self) -> bool:
        """Remove what is there; whether nothing was. What a killed one had asked for comes late."""
        found = self.containers()
        for container in found:
            with suppress(APIError):
                self.client.api.remove_container(container, force=True)
        return not found

    def _processes(self, container: str) -> int:
        try:
            return len(self.client.api.top(container)["Processes"])
        except APIError:
            # It has ended meanwhile.
            return 0


@pytest_asyncio.fixture
async def companion(tmp_path: Path) -> AsyncIterator[Companion]:
    address = engine_or_skip()
    keys = KeyRing.generate()
    keys.write(tmp_path)
    make_certificates(tmp_path)
    port, tls = free_port(), files_of(tmp_path, "sandbox")
    environ = {name: value for name, value in os.environ.items() if "PAWL" not in name} | {
        "PAWL_LISTEN": f"127.0.0.1:{port}",
        "PAWL_PUBLIC_KEYS_FILE": str(public_keys_file(tmp_path)),
        "PAWL_TLS_CA_FILE": str(tls.ca),
        "PAWL_TLS_CERT_FILE": str(tls.certificate),
        "PAWL_TLS_KEY_FILE": str(tls.key),
        "PAWL_SANDBOX_GUESTS": str(GUESTS),
        "DOCKER_HOST": address,
    }
    companion = Companion(
        environ=environ,
        port=port,
        keys=keys,
        certs=tmp_path,
        client=docker.DockerClient(base_url=address),
        label=f"{INSTALLATION_LABEL}={installation_of(public_keys_file(tmp_path))}",
    )
    yield companion
    if companion.process is not None and companion.process.returncode is None:
        await companion.end(signal.SIGKILL)
    await eventually(companion.clear, timeout=30)
    companion.client.close()


async def test_code_of_an_executor_is_run(companion: Companion) -> None:
    await companion.start()

    async with companion.executor() as sandbox:
        result = await sandbox.run(REQUEST)
        with pytest.raises(StepFailed) as raised:
            await sandbox.run(replace(REQUEST, code="1 / 0"))

    assert (result.result_json, result.stdout) == ("2", "done\n")
    assert sandbox.identity.backend == "docker"
    assert raised.value.code is FailureCode.CODE_ERROR
    assert "ZeroDivisionError" in raised.value.message


async def test_a_cancelled_run_has_no_container_any_more(companion: Companion) -> None:
    await companion.start()

    async with companion.executor() as sandbox:
        running = asyncio.create_task(sandbox.run(ENDLESS))
        (busy,) = await eventually(companion.busy, timeout=30)
        assert await sandbox.boots() == {BOOT}

        running.cancel()
        await asyncio.wait({running})

        assert busy not in companion.containers()
        assert await sandbox.boots() == frozenset()


async def test_a_kill_leaves_nothing_that_runs_and_the_next_start_nothing_at_all(
    companion: Companion,
) -> None:
    await companion.start()
    async with companion.executor() as sandbox:
        running = asyncio.create_task(sandbox.run(ENDLESS))
        (busy,) = await eventually(companion.busy, timeout=30)

        await companion.end(signal.SIGKILL)

        with pytest.raises(StepFailed) as raised:
            await running
        assert raised.value.code is FailureCode.SANDBOX_LOST
        await eventually(lambda: companion.containers(running=True) == set(), timeout=5)

    left = companion.containers()
    assert busy in left
    await companion.start()
    async with companion.executor() as sandbox:
        assert (await sandbox.run(REQUEST)).result_json == "2"
        assert not left & companion.containers()


async def test_a_stop_lets_code_end_and_leaves_nothing(companion: Companion) -> None:
    await companion.start()
    async with companion.executor() as sandbox:
        code = "import time; time.sleep(1); result = 1"
        running = asyncio.create_task(sandbox.run(replace(REQUEST, code=code)))
        await eventually(lambda: asking(sandbox), timeout=30)

        ended = await companion.end(signal.SIGTERM)

        assert (await running).result_json == "1"
    assert ended == EXIT_STOPPED
    assert companion.containers() == set()


async def asking(sandbox: CompanionSandbox) -> bool:
    return bool(await sandbox.boots())


async def test_it_waits_for_an_engine_and_can_be_stopped_meanwhile(
    companion: Companion, tmp_path: Path
) -> None:
    companion.environ["DOCKER_HOST"] = f"unix://{tmp_path}/nowhere.sock"
    await companion.start()
    assert companion.process is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await companion.process.wait()

    assert await companion.end(signal.SIGTERM) == EXIT_STOPPED


async def test_bad_settings_end_it(companion: Companion) -> None:
    companion.environ["DOCKER_HOST"] = "ssh://elsewhere"
    await companion.start()

    assert companion.process is not None
    assert await companion.process.wait() == EXIT_BAD_CONFIG
