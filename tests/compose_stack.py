"""A whole Pawl in containers under test: its own project, port and volumes, removed at the end."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from libs.cli.client import Client, Server
from services.executor.sandbox.docker_config import INSTALLATION_LABEL
from tests.containers import KAFKA_IMAGE, POSTGRES_IMAGE, S3_IMAGE, free_port

ROOT = Path(__file__).parents[1]
IMAGE = "pawl:test"
_BASE = re.compile(r"^FROM (\S+)", re.MULTILINE)
_READY_SECONDS = 300
_SOCKET = Path("/var/run/docker.sock")
_INSTALLATION = """
from pathlib import Path
from services.executor.sandbox.installation import installation_of
print(installation_of(Path("/run/pawl/public_keys.json")))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeStack:
    """A project of compose; `command` is the compose that this machine has."""

    command: tuple[str, ...]
    environ: dict[str, str] = field(repr=False)
    url: str

    def script(self, action: str) -> str:
        """Run deploy/compose.sh; what it said."""
        return self._run("deploy/compose.sh", action)

    def compose(self, *arguments: str) -> str:
        """Run compose; what it said on stdout."""
        return self._run(*self.command, *arguments)

    def containers(self, service: str) -> list[str]:
        """Ids of the containers of a service, stopped ones too."""
        project = self.environ["COMPOSE_PROJECT_NAME"]
        labels = {"project": project, "service": service, "oneoff": "False"}
        filters = [f"--filter=label=com.docker.compose.{k}={v}" for k, v in labels.items()]
        return self._run("docker", "ps", "--all", "--quiet", *filters).split()

    def installation(self) -> str:
        """The name under which the sandbox makes its guests."""
        return self.compose("exec", "-T", "executor", "python", "-c", _INSTALLATION).strip()

    def guests(self, installation: str) -> set[str]:
        """Ids of the containers of its sandbox, those that ended too."""
        label = f"label={INSTALLATION_LABEL}={installation}"
        return set(self._run("docker", "ps", "--all", "--quiet", f"--filter={label}").split())

    def processes(self, container: str) -> int:
        """How many run in a container; none when it has ended meanwhile."""
        listed = subprocess.run(
            ["docker", "top", container], capture_output=True, text=True, check=False
        )
        return max(0, len(listed.stdout.splitlines()) - 1)

    def kept(self) -> dict[str, list[str]]:
        """What there is of the project: containers, volumes, networks."""
        project = (
            f"--filter=label=com.docker.compose.project={self.environ['COMPOSE_PROJECT_NAME']}"
        )
        found = {
            "containers": self._run("docker", "ps", "--all", "--quiet", project),
            "volumes": self._run("docker", "volume", "ls", "--quiet", project),
            "networks": self._run("docker", "network", "ls", "--quiet", project),
        }
        return {kind: ids.split() for kind, ids in found.items()}

    def docker(self, *arguments: str) -> str:
        """Run the engine's command; what it said on stdout."""
        return self._run("docker", *arguments)

    def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        found: list[dict[str, Any]] = json.loads(self._run("docker", "inspect", container))
        return found[0]

    def api_key(self) -> str:
        """The operator's key, read as deploy/compose.sh says."""
        return self.compose(
            "run", "--rm", "-T", "--entrypoint", "cat", "pawl", "/run/pawl/api_key"
        ).strip()

    def client(self) -> Client:
        """A client of the published port, as the operator."""
        return Client(Server(url=self.url, api_key=self.api_key()))

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout


def compose_commands() -> list[tuple[str, ...]]:
    """Every compose that this machine has."""
    candidates = (("docker", "compose"), ("docker-compose",))
    return [command for command in candidates if _answers(command)]


@contextmanager
def compose_stack() -> Iterator[ComposeStack]:
    """Started from nothing, ready. Skips with the reason where an engine, compose or an image is
    missing.
    """
    _need_engine_and_images()
    commands = compose_commands()
    if not commands:
        pytest.skip("neither docker compose nor docker-compose is installed")
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if "PAWL" not in name}
    environ = inherited | {
        "COMPOSE_PROJECT_NAME": f"pawl-test-{secrets.token_hex(4)}",
        "PAWL_IMAGE": IMAGE,
        "PAWL_HTTP_PORT": str(port),
        "PAWL_DOCKER_GID": str(_SOCKET.stat().st_gid) if _SOCKET.exists() else "0",
        "READY_SECONDS": str(_READY_SECONDS),
    }
    stack = ComposeStack(command=commands[0], environ=environ, url=f"http://127.0.0.1:{port}")
    stack.script("build")
    try:
        stack.script("up")
        installation = stack.installation()
        yield stack
    finally:
        stack.script("clean")
    assert stack.guests(installation) == set()
    assert stack.kept() == {"containers": [], "volumes": [], "networks": []}


def _answers(command: tuple[str, ...]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0


def _need_engine_and_images() -> None:
    try:
        engine = docker.from_env()
        engine.ping()
    except DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    base = _BASE.findall((ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"))
    for image in {*base, KAFKA_IMAGE, S3_IMAGE, POSTGRES_IMAGE}:
        try:
            if not engine.images.list(image):
                engine.images.pull(image)
        except DockerException as error:
            pytest.skip(f"{image} is not here and cannot be had: {error}")
