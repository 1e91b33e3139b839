"""`pawl replay`: do once more what a task did, and say whether it came to the same."""

from __future__ import annotations

from libs.cli.client import Client
from libs.cli.comparison import print_outcome
from libs.cli.follow import task_path
from libs.cli.output import console, error_console, print_json
from libs.cli.run import follow_to_end, print_end
from libs.cli.trace import fetch_trace
from libs.client.reading import read
from libs.client.traces import Replay


def replay_task(client: Client, task_id: str, *, mode: str, as_json: bool) -> int:
    """Submit a replay, follow it, print what it came to; 0 when all hashes match, else 1."""
    accepted = client.post(task_path(task_id, "replay"), {"mode": mode})
    task = follow_to_end(client, str(accepted["task_id"]), quiet=as_json)
    if task is None:
        return 130
    replay = fetch_trace(client, task["task_id"]).raw["replay"]
    compared = read(Replay, replay)
    if as_json:
        print_json({"task_id": task["task_id"], "status": task["status"], "replay": replay})
    else:
        print_end(task, error_console())
        print_outcome(compared.first_divergence, console(), matches=compared.matches)
    return 0 if compared.matches else 1
