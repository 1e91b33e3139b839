"""A real n8n for tests: its command line on a database of its own, with no word to its makers.

`make test-n8n` installs it into build/n8n.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.process.child import tied

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / "build" / "n8n"
COMMAND = (str(INSTALLED / "node_modules" / ".bin" / "n8n"),)
WORKFLOWS = ROOT / "examples" / "n8n"
CREDENTIAL = "pawlHeaderAuth01"
"""The id by which the workflows of examples/n8n name their Header Auth credential."""

COMMAND_SECONDS = 120.0
QUIET = {
    "N8N_DIAGNOSTICS_ENABLED": "false",
    "N8N_DYNAMIC_BANNERS_ENABLED": "false",
    "N8N_HIRING_BANNER_ENABLED": "false",
    "N8N_LICENSE_AUTO_RENEW_ENABLED": "false",
    "N8N_PERSONALIZATION_ENABLED": "false",
    "N8N_TEMPLATES_ENABLED": "false",
    "N8N_VERSION_NOTIFICATIONS_ENABLED": "false",
    "N8N_VERSION_NOTIFICATIONS_WHATS_NEW_ENABLED": "false",
}
"""Without these n8n calls home."""

Workflow = dict[str, Any]


def what_is_missing() -> str | None:
    """Why n8n cannot run here; None when it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (INSTALLED / "node_modules" / "n8n" / "bin" / "n8n").is_file():
        return "n8n is not installed: make test-n8n does that"
    return None


def workflow(name: str) -> Workflow:
    """A workflow of examples/n8n, as it stands in its file."""
    read: Workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    return read


def node(of: Workflow, name: str) -> dict[str, Any]:
    """A node of a workflow, to be changed."""
    [found] = [one for one in of["nodes"] if one["name"] == name]
    assert isinstance(found, dict)
    return found


def insert_before(
    of: Workflow, name: str, new: str, *, kind: str, version: float, parameters: dict[str, Any]
) -> None:
    """Put a new node between a node and all that lead to it."""
    for outputs in of["connections"].values():
        for wire in (wire for wires in outputs["main"] for wire in wires):
            wire["node"] = new if wire["node"] == name else wire["node"]
    of["connections"][new] = {"main": [[{"node": name, "type": "main", "index": 0}]]}
    made = {"id": new, "name": new, "type": f"n8n-nodes-base.{kind}", "typeVersion": version}
    of["nodes"].append(made | {"position": [0, 0], "parameters": parameters})


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of a workflow: its exit code, and what n8n says of it."""

    exit_code: int
    output: str

    @property
    def data(self) -> dict[str, Any]:
        """What n8n prints of a run, from the first line that begins an object."""
        begin = self.output.index("\n{") + 1 if "\n{" in self.output else self.output.index("{")
        found, _ = json.JSONDecoder().raw_decode(self.output[begin:])
        assert isinstance(found, dict)
        return found

    @property
    def runs(self) -> dict[str, list[dict[str, Any]]]:
        """Node → its runs, in order."""
        runs = self.data["data"]["resultData"]["runData"]
        assert isinstance(runs, dict)
        return runs

    @property
    def result(self) -> dict[str, Any]:
        """The one item that came out of the last node."""
        [last] = self.runs[self.data["data"]["resultData"]["lastNodeExecuted"]][-1:]
        [item] = last["data"]["main"][0]
        assert isinstance(item["json"], dict)
        return item["json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class N8n:
    """An n8n with its own home. The workflows find Pawl by `PAWL_URL`, as docs/automation.md has
    it, and the key in their credential.
    """

    home: Path

    def give(self, key: str) -> None:
        """Make the credential of the workflows, with a key of Pawl."""
        data = {"name": "Authorization", "value": f"Bearer {key}"}
        made = {"id": CREDENTIAL, "name": "Pawl", "type": "httpHeaderAuth", "data": data}
        file = self._file("credentials", [made])
        self._run("import:credentials", f"--input={file}")
        file.unlink()

    def execute(self, of: Workflow, *, pawl: str, key: str = "") -> Execution:
        """Import a workflow and run it once. `pawl` is the address that it finds in its
        environment, `key` the key there.
        """
        self._run("import:workflow", f"--input={self._file('workflow', of)}")
        done = self._call(
            "execute", f"--id={of['id']}", "--rawOutput", PAWL_URL=pawl, PAWL_API_KEY=key
        )
        return Execution(exit_code=done.returncode, output=done.stdout + done.stderr)

    @contextmanager
    def serving(self, of: Workflow, *, pawl: str) -> Iterator[str]:
        """Publish a workflow that begins with a webhook, and run n8n as a server: its address."""
        self._run("import:workflow", f"--input={self._file('workflow', of)}")
        self._run("publish:workflow", f"--id={of['id']}")
        port = _free_port()
        where = {"N8N_LISTEN_ADDRESS": "127.0.0.1", "N8N_PORT": str(port)}
        with (self.home / "server.log").open("wb") as log:
            process = subprocess.Popen(
                tied((*COMMAND, "start"), death_signal=signal.SIGTERM),
                cwd=self.home,
                env=self._environ(PAWL_URL=pawl, **where),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=COMMAND_SECONDS)

    def _file(self, name: str, content: object) -> Path:
        file = self.home / f"{name}.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(content), encoding="utf-8")
        return file

    def _run(self, *arguments: str) -> None:
        done = self._call(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr

    def _call(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.home,
            env=self._environ(**more),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def _environ(self, **more: str) -> dict[str, str]:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "N8N_USER_FOLDER": str(self.home),
            "N8N_BLOCK_ENV_ACCESS_IN_NODE": "false",
            "N8N_RUNNERS_BROKER_PORT": str(_free_port()),
        }
        return environ | QUIET | more


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
