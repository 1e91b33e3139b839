"""Tools that work in a process of their own, in a whole Pawl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack
from tests.documents import encoded, make_pdf
from tests.e2e.tasks import EXECUTE, run_and_trace
from tests.waiting import eventually

pytestmark = pytest.mark.e2e

ENDLESS = "SELECT count(*) FROM range(10000000) a(x), range(10000000) b(y) WHERE x % 7 = y % 3"


def plan(*steps: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "task_definition": {},
        "plan": {
            "steps": [
                {"step_index": index, "tool": tool, "input": given}
                for index, (tool, given) in enumerate(steps, start=1)
            ]
        },
    }


def workers(stack: Stack) -> set[int]:
    """The children of the stack's executors."""
    executors = [one.pid for one in stack.ready.services["executor"]]
    texts = [
        (task / "children").read_text()
        for pid in executors
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return {int(child) for text in texts for child in text.split()}


def test_a_document_s_numbers_are_queried(client: Client, stack: Stack) -> None:
    pdf = encoded(make_pdf("Rent 1200", "Water 80", title="Bills"))
    query = (
        "SELECT sum(regexp_extract(line, '[0-9]+')::INTEGER) AS total "
        "FROM (SELECT unnest(string_split(text, chr(10))) AS line FROM document) "
        "WHERE line <> ''"
    )

    trace = run_and_trace(
        client,
        plan(
            ("text_extract", {"content_base64": pdf, "media_type": "application/pdf"}),
            (
                "table_query",
                {
                    "tables": {"document": {"rows": [{"text": {"$ref": "steps.1.output.text"}}]}},
                    "query": query,
                },
            ),
        ),
    )

    assert trace["status"] == "succeeded", trace["failure"]
    assert trace["steps"][1]["output"]["rows"] == [{"total": 1280}]
    assert workers(stack) == set()


async def test_a_cancelled_task_leaves_no_process(client: Client, stack: Stack) -> None:
    tables = {"t": {"rows": [{"a": 1}]}}
    body = plan(("table_query", {"tables": tables, "query": ENDLESS}))
    task_id = client.post(EXECUTE, body)["task_id"]
    await eventually(lambda: workers(stack), timeout=20)

    client.post(f"/v1/tasks/{task_id}/cancel", {})

    await eventually(lambda: not workers(stack), timeout=5)
    trace = client.get(f"/api/v1/tasks/{task_id}/trace")
    assert trace["failure"]["code"] == "CANCELLED"


def test_the_time_of_a_step_ends_its_process(client: Client, stack: Stack) -> None:
    tables = {"t": {"rows": [{"a": 1}]}}
    body = plan(("table_query", {"tables": tables, "query": ENDLESS}))
    body["plan"]["limits"] = {"max_step_seconds": 1}

    trace = run_and_trace(client, body)

    assert (trace["status"], trace["failure"]["code"]) == ("failed", "TIMEOUT")
    assert workers(stack) == set()
