"""Records runs anew: `python -m tests.determinism.record`, after a new version of a tool.

Starts a Pawl of its own and writes `recorded/<name>.json` with the submission and its trace.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from libs.cli.client import Client
from libs.cli.stack import running_stack
from tests.e2e.tasks import CHAIN, FAILING, UNPLANNABLE, UNRESOLVED, run_and_trace

DIRECTORY = Path(__file__).parent / "recorded"
SUBMISSIONS: dict[str, dict[str, Any]] = {
    "chain": CHAIN,
    "failing": FAILING,
    "unresolved_reference": UNRESOLVED,
    "unplannable": UNPLANNABLE,
    "expression": {"task_definition": {"expression": "2**10 / 3"}},
    "text": {
        "task_definition": {
            "text": "The kiln was lit at dawn. Forty bowls went in. Thirty-eight came out whole.",
            "topic": "bowls",
        }
    },
    "page": {
        "task_definition": {
            "html": "<h1>Tides</h1><p>High water at 04:12. <a href='/next'>Next day</a></p>"
        }
    },
    "topic": {"task_definition": {"topic": "Summarize weekly release notes"}},
}


def record() -> None:
    """Run every submission and write what came of it."""
    DIRECTORY.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="pawl-record-") as name,
        running_stack(Path(name) / "data") as stack,
    ):
        client = Client(stack.server)
        for title, submission in SUBMISSIONS.items():
            run = {"submission": submission, "trace": run_and_trace(client, submission)}
            text = json.dumps(run, indent=1, ensure_ascii=False) + "\n"
            (DIRECTORY / f"{title}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    record()
