"""One Pawl and one n8n for all tests of workflows; each test has an account of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack, running_stack
from tests.automation.n8n import Execution, N8n, Workflow, what_is_missing
from tests.e2e.tasks import new_tenant
from tests.recording_proxy import RecordingProxy, recording_proxy
from tests.stacks import StackEnvirons


@dataclass(frozen=True, slots=True, kw_only=True)
class Automation:
    """An n8n that knows the key of a fresh account, and the proxy through which it reaches Pawl."""

    n8n: N8n
    client: Client
    proxy: RecordingProxy

    def execute(self, of: Workflow, *, key: str = "") -> Execution:
        """Run a workflow once; with a key in its environment too, if it is given one."""
        return self.n8n.execute(of, pawl=self.proxy.url, key=key)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """All tasks of the account."""
        return list(self.client.pages("/api/v1/tasks", {"limit": 200}))

    @property
    def calls(self) -> list[str]:
        """What n8n asked for, in order, with the answers: `POST execute 200`."""
        return [
            f"{seen.method} {_last_of(seen.path)} {seen.status or 'nothing'}"
            for seen in self.proxy.seen
        ]


def _last_of(path: str) -> str:
    last = path.rpartition("/")[2]
    return last if last in {"execute", "trace"} else "task"


@pytest.fixture(scope="session")
def n8n(tmp_path_factory: pytest.TempPathFactory) -> N8n:
    missing = what_is_missing()
    if missing:
        pytest.skip(missing)
    return N8n(home=tmp_path_factory.mktemp("n8n"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons) -> Iterator[Stack]:
    """A whole Pawl, which nobody may stop or starve."""
    data_dir = tmp_path_factory.mktemp("stack") / "data"
    with running_stack(data_dir, environ=environs.fresh()) as running:
        yield running


@pytest.fixture
def automation(n8n: N8n, stack: Stack) -> Iterator[Automation]:
    client = new_tenant(stack, f"n8n-{secrets.token_hex(4)}")
    n8n.give(client.server.api_key)
    with recording_proxy(stack.server.url) as proxy:
        yield Automation(n8n=n8n, client=client, proxy=proxy)
