"""A batch whose scheduler dies on the way is whole or not there, and is made once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from libs.cli.client import Client, Refused
from tests.faults.stack import fault_stack

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

BATCH = "/api/v1/tasks/batch"
BODY: dict[str, Any] = {"tasks": [{"task_definition": {"expression": f"{n}+1"}} for n in range(5)]}
KEYED = {"Idempotency-Key": "the-batch"}


@pytest.mark.parametrize(
    "point",
    ["create.before_commit:1", "idem.after_insert:3", "create.after_commit_before_reply:1"],
)
async def test_batch_whose_scheduler_dies_is_made_once(tmp_path: Path, point: str) -> None:
    async with fault_stack(tmp_path / "stack", crash_at=point) as stack:
        client = Client(stack.server)
        answers: list[dict[str, Any]] = []
        statuses: list[int] = []
        async with asyncio.timeout(60):
            while not answers:
                try:
                    answers.append(await asyncio.to_thread(_submit, client))
                except Refused as error:
                    statuses.append(error.status)
                    await asyncio.sleep(0.2)
        again = await asyncio.to_thread(_submit, client)
        ids = [task["task_id"] for task in answers[0]["tasks"]]
        rows = await stack.ask("SELECT count(*) AS n FROM scheduler.tasks")
        ended = [await asyncio.to_thread(client.get, f"/api/v1/tasks/{one}?wait=25") for one in ids]

    assert set(statuses) <= {503, 504}
    assert statuses
    assert stack.crashed
    assert [task["task_id"] for task in again["tasks"]] == ids
    assert rows == [{"n": 5}]
    assert [task["result"] for task in ended] == [{"result": n + 1} for n in range(5)]


def _submit(client: Client) -> dict[str, Any]:
    return client.post(BATCH, BODY, headers=KEYED)
