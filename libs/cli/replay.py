"""`pawl replay`: do once more what a task did, and say whether it came to the same."""

from __future__ import annotations

from libs.cli.client import Client, Unreachable
from libs.cli.comparison import print_outcome
from libs.cli.output import console, error_console, print_json
from libs.cli.run import follow_to_end, print_end


def replay_task(client: Client, task_id: str, *, mode: str, as_json: bool) -> int:
    """Replay, follow, compare; 0 when every hash matches, 1 when something differs."""
    accepted = client.api.replay(task_id, mode=mode)
    task = follow_to_end(client, accepted.task_id, quiet=as_json)
    if task is None:
        return 130
    trace = client.api.trace(task)
    replay = trace.replay
    if replay is None:
        raise Unreachable("the server answers, but says nothing of how the replay compares")
    if as_json:
        said = {"task_id": task.task_id, "status": task.status, "replay": trace.raw["replay"]}
        print_json(said)
    else:
        print_end(task, error_console())
        print_outcome(replay.first_divergence, console(), matches=replay.matches)
    return 0 if replay.matches else 1
