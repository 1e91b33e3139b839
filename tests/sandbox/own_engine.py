"""A container engine of the test's own, to be killed, held and filled."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from services.executor.sandbox.image.context import ImageContext
from tests.sandbox.docker_world import STUB, engine_or_skip

_READY_SECONDS = 30
_END_SECONDS = 30


class DoesNotStart(Exception):  # noqa: N818 - what was found
    """A second engine does not run on this machine; the message is the end of its log."""


class OwnEngine:
    """`dockerd` with everything of its own below `place`; without a network."""

    def __init__(self, place: Path, *, data_root: Path) -> None:
        self.address = f"unix://{place}/docker.sock"
        self.data_root = data_root
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers. Raises DoesNotStart."""
        command = [
            # In a network of its own: without a bridge it would remove the machine's.
            *("unshare", "--net", "dockerd"),
            *("--host", self.address, "--data-root", str(self.data_root)),
            *("--exec-root", str(self._place / "exec"), "--pidfile", str(self._place / "pid")),
            *("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"),
            # The machine's configuration is not ours.
            *("--config-file", str(self._place / "none.json"), "--log-level=warn"),
        ]
        (self._place / "none.json").write_text("{}")
        # One that was killed leaves these; the next would refuse to start, or take what is dead
        # and not yet buried for its containerd.
        for left in ("pid", "exec/containerd/containerd.pid"):
            (self._place / left).unlink(missing_ok=True)
        log = self._place / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        end = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise DoesNotStart(log.read_text()[-500:])
            time.sleep(0.1)

    def load(self, image: bytes) -> None:
        """Give it an image."""
        client = docker.DockerClient(base_url=self.address, timeout=120)
        client.images.load(image)
        client.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGKILL waits for its end."""
        assert self._process is not None
        self._process.send_signal(number)
        if number is signal.SIGKILL:
            self._process.wait(_END_SECONDS)

    def stop(self) -> None:
        """End it, and with it its containers."""
        if self._process is None:
            return
        if self._process.poll() is not None:
            # What a killed one left runs on until the next one ends it.
            self.start()
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        self._process.wait(_END_SECONDS)
        for pid in self._left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _left(self) -> list[int]:
        """What holds containers that were being made when the engine was killed, and these."""
        mark = f"\0{self._place}/exec/".encode()
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and mark in _read(entry / "cmdline"):
                for children in entry.glob("task/*/children"):
                    found += map(int, _read(children).split())
                found.append(int(entry.name))
        return found

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self._place / "docker.sock"))
            client = docker.DockerClient(base_url=self.address, timeout=5)
        except (OSError, DockerException):
            return False
        client.close()
        return True


def _read(path: Path) -> bytes:
    """A file of /proc; empty when its process has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def own_engine(
    place: Path, *, context: ImageContext = STUB, tmpfs_bytes: int | None = None
) -> Iterator[OwnEngine]:
    """An engine that has the image of `context`, which this machine's engine has; its data on a
    tmpfs of that size, if asked for.

    Skips where no second engine is to be had.
    """
    address = engine_or_skip()
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        pytest.skip("a second dockerd needs the program and root")
    image = _image(address, context)
    data_root = place / "data"
    data_root.mkdir()
    with _tmpfs(data_root, tmpfs_bytes):
        engine = OwnEngine(place, data_root=data_root)
        try:
            engine.start()
        except DoesNotStart as error:
            pytest.skip(f"a second dockerd does not start: {error}")
        try:
            engine.load(image)
            yield engine
        finally:
            engine.stop()


def fill(path: Path) -> None:
    """Write a file that takes all that is left of its disk."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 2**20)
        except OSError:
            pass
        # The last page too.
        try:
            while True:
                file.write(b"\0" * 512)
        except OSError:
            return


def _image(address: str, context: ImageContext) -> bytes:
    client = docker.DockerClient(base_url=address, timeout=120)
    name = f"pawl-sandbox:{context.version}"
    saved = b"".join(client.images.get(name).save(named=name))
    client.close()
    return saved


@contextmanager
def _tmpfs(place: Path, size_bytes: int | None) -> Iterator[None]:
    if size_bytes is None:
        try:
            yield
        finally:
            # One that is killed leaves its data mounted on itself.
            command = ["umount", "--quiet", "--lazy", str(place)]
            subprocess.run(command, capture_output=True, check=False)
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
