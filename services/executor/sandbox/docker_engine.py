"""The container engine's API: the docker SDK in threads of its own, a deadline on each call."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from services.executor.sandbox.docker_address import DEFAULT_ADDRESS
from services.executor.sandbox.model import Death, SandboxUnavailable

THREADS = 8
CALL_SECONDS = 10.0
_BUILD_SILENCE_SECONDS = 180.0
_ATTACH = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}

T = TypeVar("T")
Progress = Callable[[str], None]


class NotThere(SandboxUnavailable):
    """The engine knows no such container or image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineVersion:
    """What answers: the engine's release and that of its runc, "" where it does not say."""

    engine: str
    runc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image: its id, `sha256:…`, and its labels."""

    id: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFacts:
    """A container: its id, its name and its labels."""

    id: str
    name: str
    labels: dict[str, str]


class Engine:
    """The engine at `address`: unix://… or tcp://… without TLS.

    Every method raises SandboxUnavailable when the engine cannot be reached, refuses or does not
    answer in time; NotThere, a kind of it, when what it is asked about is not there. A call that is
    given up goes on in its thread until the engine answers, or is silent for 10 s.
    """

    def __init__(
        self, address: str = DEFAULT_ADDRESS, *, call_seconds: float = CALL_SECONDS
    ) -> None:
        self.address = address
        self._call_seconds = call_seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        self._connecting = threading.Lock()
        self._client: Any = None

    async def version(self) -> EngineVersion:
        """What answers."""
        said = await self._ask("its version", lambda client: client.version())
        parts = {part["Name"]: str(part["Version"]) for part in said.get("Components") or ()}
        return EngineVersion(engine=str(said.get("Version", "")), runc=parts.get("runc", ""))

    async def image(self, name: str) -> ImageFacts:
        """The image of this name."""
        found = await self._ask(f"image {name}", lambda client: client.inspect_image(name))
        labels = (found.get("Config") or {}).get("Labels") or {}
        return ImageFacts(id=found["Id"], labels=labels)

    async def tag(self, image_id: str, *, repository: str, tag: str) -> None:
        """Give an image a name."""
        await self._ask("a tag", lambda client: client.tag(image_id, repository, tag))

    async def build(
        self, context: bytes, *, labels: dict[str, str], progress: Progress, seconds: float
    ) -> str:
        """Build an image from a tar archive; its id. `progress` is called in a thread."""
        return await self._ask(
            "building the image",
            lambda client: _build(client, context, labels=labels, progress=progress),
            seconds=seconds,
        )

    def begin(self, config: dict[str, Any], *, name: str) -> asyncio.Future[socket.socket]:
        """Make, attach and start a container. Goes on, and is to be awaited, even when nobody wants
        it any more.
        """
        work = self._ask("a container", lambda client: _begin(client, config, name), seconds=None)
        return asyncio.ensure_future(work)

    async def containers(self, label: str) -> list[ContainerFacts]:
        """All containers, running or not, with `label`, which is name=value."""
        filters = {"label": [label]}
        found = await self._ask(
            "its containers", lambda client: client.containers(all=True, filters=filters)
        )
        return [
            ContainerFacts(
                id=each["Id"],
                name=((each.get("Names") or [""])[0]).removeprefix("/"),
                labels=each.get("Labels") or {},
            )
            for each in found
        ]

    async def remove(self, container: str) -> bool:
        """Kill and remove a container; whether it was there."""
        return await self._ask(f"removing {container}", lambda client: _remove(client, container))

    async def death(self, container: str, *, wait_seconds: float) -> Death:
        """How a container ended; waits for its end up to `wait_seconds`."""
        return await self._ask(
            f"container {container}", lambda client: _death(client, container, wait_seconds)
        )

    def close(self) -> None:
        """Give the threads back; calls that have not begun are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def _ask(
        self, what: str, function: Callable[[Any], T], *, seconds: float | None = 0.0
    ) -> T:
        """Call `function` with the client in a thread. `seconds` 0: as all; None: as long as its
        requests take, each within the usual time.
        """
        limit = self._call_seconds if seconds == 0 else seconds
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit):
                return await loop.run_in_executor(self._threads, self._call, function)
        except TimeoutError as error:
            message = f"the container engine at {self.address} does not answer ({what})"
            raise SandboxUnavailable(message) from error
        except NotFound as error:
            raise NotThere(f"the container engine has not: {what}: {_said(error)}") from error
        except (DockerException, requests.RequestException, OSError, ValueError) as error:
            away = _no_connection(error)
            if away:
                message = f"no container engine answers at {self.address}: {away}"
                raise SandboxUnavailable(message) from error
            raise SandboxUnavailable(
                f"the container engine at {self.address} failed ({what}): {_said(error)}"
            ) from error

    def _call(self, function: Callable[[Any], T]) -> T:
        return function(self._connected())

    def _connected(self) -> Any:
        with self._connecting:
            if self._client is None:
                client = docker.APIClient(
                    base_url=self.address, timeout=self._call_seconds, max_pool_size=THREADS
                )
                # No proxy of the environment stands between us and it.
                client.trust_env = False
                self._client = client
            return self._client


def _no_connection(error: BaseException | None) -> str:
    """Why none came about, in the system's words: below those of three libraries. "" if one did."""
    while error is not None:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError | PermissionError):
            is_refused = isinstance(error, PermissionError)
            ask = "may this user reach it?" if is_refused else "is Docker installed and running?"
            return f"{error.strerror}; {ask}"
        error = error.__cause__ or error.__context__
    return ""


def _said(error: Exception) -> str:
    if isinstance(error, APIError):
        return str(error.explanation or error)[:500]
    return str(error)[:500] or type(error).__name__


def _begin(client: Any, config: dict[str, Any], name: str) -> socket.socket:
    """Attached before it starts, so that nothing it says is missed."""
    container = client.create_container_from_config(config, name=name)["Id"]
    connection = _attach(client, container)
    try:
        client.start(container)
    except BaseException:
        connection.close()
        raise
    return connection


def _attach(client: Any, container: str) -> socket.socket:
    """The connection as a socket of our own; the SDK's hold on it is given up."""
    hold = client.attach_socket(container, params=_ATTACH)
    try:
        taken: socket.socket = hold._sock.dup()  # noqa: SLF001 - the SDK has no other way to it
    finally:
        hold._response.close()  # noqa: SLF001
    taken.settimeout(None)
    return taken


def _remove(client: Any, container: str) -> bool:
    try:
        client.remove_container(container, force=True, v=True)
    except NotFound:
        return False
    except APIError as error:
        # Somebody else removes it already.
        if error.status_code != requests.codes.conflict:
            raise
        return False
    return True


def _death(client: Any, container: str, wait_seconds: float) -> Death:
    with suppress(requests.RequestException):
        client.wait(container, timeout=wait_seconds)
    state = client.inspect_container(container)["State"]
    exit_code = None if state.get("Running") else state.get("ExitCode")
    return Death(is_out_of_memory=bool(state.get("OOMKilled")), exit_code=exit_code)


def _build(client: Any, context: bytes, *, labels: dict[str, str], progress: Progress) -> str:
    image_id = ""
    for said in _build_steps(client, context, labels):
        if "error" in said:
            raise DockerException(str(said["error"]).strip())
        text = str(said.get("stream") or said.get("status") or "").strip()
        # Not what each step prints, and not how far each of many downloads is.
        if text.startswith(("Step ", "Pulling from ")):
            progress(text)
        image_id = (said.get("aux") or {}).get("ID", image_id)
    if not image_id:
        raise DockerException("the build ended without an image")
    return image_id


def _build_steps(client: Any, context: bytes, labels: dict[str, str]) -> Iterator[dict[str, Any]]:
    found: Iterator[dict[str, Any]] = client.build(
        fileobj=io.BytesIO(context),
        custom_context=True,
        decode=True,
        rm=True,
        forcerm=True,
        labels=labels,
        network_mode="none",
        use_config_proxy=False,
        timeout=_BUILD_SILENCE_SECONDS,
    )
    return found
