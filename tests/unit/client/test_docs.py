"""The examples of docs/client.md run, in their order, against a server that answers like Pawl."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recorded_traces import AT, TASK_ID, make_trace
from tests.unit.cli.fake_server import FakeServer, fake_server
from tests.unit.client.test_calls import ACCEPTED, TOOL, USAGE, task

PAGE = Path(__file__).parents[3] / "docs" / "client.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
_UNKNOWN_TOOL = {
    "code": "unknown_tool",
    "detail": "nobody offers it",
    "request_id": "req_1",
    "errors": [{"field": "plan.steps[0].tool", "code": "unknown_tool", "detail": "nobody has it"}],
}


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        _answer(server)
        yield server


def _answer(server: FakeServer) -> None:
    one = f"GET /api/v1/tasks/{TASK_ID}"
    replay = {"of_task_id": TASK_ID, "mode": "live", "matches": True, "first_divergence": None}
    # The first, the planned one, and the refused one; then that of the asyncio example.
    for _ in range(2):
        server.json("POST /api/v1/tasks/execute", ACCEPTED)
    server.json("POST /api/v1/tasks/execute", _UNKNOWN_TOOL, status=422)
    server.json("POST /api/v1/tasks/execute", ACCEPTED)
    server.json("POST /api/v1/tasks/batch", {"version": "x", "tasks": [ACCEPTED] * 3})
    server.json(f"POST /api/v1/tasks/{TASK_ID}/replay", ACCEPTED)
    for wait in ("", "?wait=25", "?wait=60"):
        server.json(one + wait, task("succeeded"))
    server.json(f"{one}/trace", make_trace() | {"replay": replay})
    ended = {"from": "running", "to": "succeeded", "at": AT}
    server.events(f"{one}/events", (1, "task.status_transition", ended))
    listed = {"data": [task("queued")], "next_cursor": None}
    server.json("GET /api/v1/tasks?status=queued%2Crunning&limit=50", listed)
    server.json("GET /api/v1/tasks/usage", USAGE)
    server.json("GET /v1/tools?limit=200", {"data": [TOOL], "next_cursor": None})


def test_the_examples_of_the_page_run(
    fake: FakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAWL_URL", fake.url)
    monkeypatch.setenv("PAWL_API_KEY", "pawl_test_key")
    names: dict[str, Any] = {"__name__": "example"}

    for place, example in enumerate(EXAMPLES, start=1):
        exec(compile(example, f"example {place}", "exec"), names)

    out = capsys.readouterr().out
    assert len(EXAMPLES) == 9
    assert "succeeded {'result': 4}" in out
    assert "422 unknown_tool req_1\n[('plan.steps[0].tool', 'nobody has it')]" in out
    assert "True None" in out
    assert "pro 1588 2\n['math']" in out
    assert not [
        asked.path for asked in fake.asked if f"{asked.method} {asked.path}" not in fake.answers
    ]


def test_every_method_has_its_row() -> None:
    from libs.client.client import Client

    methods = {name for name in vars(Client) if not name.startswith("_")} - {"close"}

    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(\w+)(?:\(|`)", " ".join(row.split("|")[1] for row in rows)))
    assert methods <= named


def test_every_exception_is_explained() -> None:
    import pawl

    kinds = [kind for kind in vars(pawl).values() if isinstance(kind, type)]
    errors = [kind.__name__ for kind in kinds if issubclass(kind, pawl.Error)]

    assert [
        name for name in errors if f"`{name}`" not in TEXT and f"pawl.{name}`" not in TEXT
    ] == []
