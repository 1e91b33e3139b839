"""The README's quickstart with a client that was generated; runs where there is nothing of Pawl.

Usage: generated_quickstart.py TASK TRACE. TASK is the file with the body to send, TRACE the file
for the trace. PAWL_URL and PAWL_API_KEY say where and with which key. Prints what became of it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pawl_client
from pawl_client import AuthenticatedClient
from pawl_client.api.tasks import execute_task, get_task, get_task_trace, list_tasks
from pawl_client.models import ExecuteRequest, Execution, Problem, Task, TaskList

DEADLINE_SECONDS = 60
ENDLESS = ("follow_events",)
TERMINAL = ("succeeded", "failed")


def main(task_file: Path, trace_file: Path) -> None:
    """Submit, poll, look at the trace and at the list, then at all that needs no parameters."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(pawl_client.__path__, "pawl_client.")
    ]
    client = AuthenticatedClient(
        base_url=os.environ["PAWL_URL"],
        token=os.environ["PAWL_API_KEY"],
        raise_on_unexpected_status=True,
    )
    body = ExecuteRequest.from_dict(json.loads(task_file.read_text()))
    accepted = execute_task.sync(client=client, body=body, idempotency_key="quickstart-1")
    assert isinstance(accepted, Execution), accepted
    again = execute_task.sync_detailed(client=client, body=body, idempotency_key="quickstart-1")
    assert again.headers["Idempotent-Replayed"] == "true"
    task = ended(client, str(accepted.task_id))

    trace = get_task_trace.sync_detailed(str(accepted.task_id), client=client)
    assert trace.parsed is not None
    assert trace.parsed.summary.task_hash
    trace_file.write_bytes(trace.content)
    listed = list_tasks.sync(client=client, limit=5)
    assert isinstance(listed, TaskList)
    assert task.id in {one.id for one in listed.data}
    unknown = get_task.sync("no-such-task", client=client)
    assert isinstance(unknown, Problem)
    read = [name for module in modules if (name := looked_at(module, client))]
    said = {"task_id": str(task.id), "status": task.status, "result": task.result}
    print(json.dumps(said | {"refusal": unknown.code, "read": read}))


def ended(client: AuthenticatedClient, task_id: str) -> Any:
    """The task once it has ended, asked for as often as the answers say."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        said = get_task.sync_detailed(task_id, client=client, prefer="wait=2")
        assert said.headers["Preference-Applied"] == "wait=2"
        assert isinstance(said.parsed, Task), said
        if said.parsed.status in TERMINAL:
            return said.parsed
        time.sleep(int(said.headers["Retry-After"]))
    raise TimeoutError(task_id)


def looked_at(module: ModuleType, client: AuthenticatedClient) -> str:
    """The name of a GET without required parameters whose answer was read; empty for the others."""
    if not hasattr(module, "sync_detailed"):
        return ""
    parameters = inspect.signature(module.sync_detailed).parameters
    required = {name for name, one in parameters.items() if one.default is one.empty}
    name = module.__name__.rpartition(".")[2]
    if required != {"client"} or name in ENDLESS or module._get_kwargs()["method"] != "get":
        return ""
    answer = module.sync_detailed(client=client)
    assert answer.status_code == 200, answer
    assert answer.parsed is not None, answer
    return name


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
