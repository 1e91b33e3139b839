"""`pawl run`: submit a task, follow it to its end, print what came out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from libs.cli.client import Client
from libs.cli.follow import follow_task
from libs.cli.output import console, error_console, plain, pretty_json, print_json, styled
from libs.cli.progress import Progress
from libs.cli.waiting import print_waiting
from libs.client.tasks import Task
from libs.core.errors import PawlError
from libs.core.json_reader import read_object


class BadArgument(Exception):  # noqa: N818 - what it is, in two words
    """An argument of a command cannot be used; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What to submit: the arguments of `pawl run` as given."""

    definition: str | None = None
    plan: str | None = None
    topic: str | None = None
    expression: str | None = None
    max_steps: int | None = None
    timeout_seconds: float | None = None
    priority: int | None = None
    scheduled_at: str | None = None

    def body(self) -> dict[str, Any]:
        """The body of execute. Raises BadArgument."""
        given = read_argument(self.definition, "--definition") if self.definition else {}
        named = {"topic": self.topic, "expression": self.expression}
        definition = given | {name: value for name, value in named.items() if value is not None}
        if not definition and not self.plan:
            raise BadArgument(
                "say what to run: --topic, --expression, --definition or --plan (see pawl run -h)"
            )
        optional = {
            "plan": read_argument(self.plan, "--plan") if self.plan else None,
            "max_steps": self.max_steps,
            "timeout_seconds": self.timeout_seconds,
            "priority": self.priority,
            "scheduled_at": self.scheduled_at,
        }
        present = {name: value for name, value in optional.items() if value is not None}
        return {"task_definition": definition, **present}


def read_argument(text: str, option: str) -> dict[str, Any]:
    """A JSON object given as text, as @file or as @- for standard input. Raises BadArgument."""
    try:
        if text == "@-":
            data = sys.stdin.buffer.read()
        else:
            data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return read_object(data)
    except OSError as error:
        raise BadArgument(f"{option}: {text[1:]} cannot be read: {error.strerror}") from error
    except (PawlError, UnicodeEncodeError) as error:
        raise BadArgument(f"{option}: {str(error).replace('the body', 'it', 1)}") from error


def run_task(
    client: Client, body: dict[str, Any], *, idempotency_key: str | None, as_json: bool
) -> int:
    """Submit, follow, print; 0 when the task succeeded, 1 when it failed."""
    accepted = client.api.submit(**body, idempotency_key=idempotency_key)
    task = follow_to_end(client, accepted.task_id, quiet=as_json)
    if task is None:
        return 130
    if as_json:
        print_json(task.raw)
    else:
        print_end(task, error_console())
        if task.status == "succeeded":
            console().print(pretty_json(task.result), soft_wrap=True)
    return 0 if task.status == "succeeded" else 1


def follow_to_end(client: Client, task_id: str, *, quiet: bool) -> Task | None:
    """Show what happens to a task and return it when it has ended; None after Ctrl-C."""
    try:
        return _followed(client, task_id, quiet=quiet)
    except KeyboardInterrupt:
        words = f"\nThe task goes on: pawl trace {task_id}\nTo end it: pawl cancel {task_id}"
        error_console().print(words)
        return None


def print_plan(task: Task, out: Console) -> None:
    """The plan of a task on one line, and who made it."""
    if task.plan is None:
        return
    out.print(f"  planned by {task.planned_by or 'the caller'}: ", style="dim", end="")
    out.print(plain(" → ".join(step.tool for step in task.plan.steps), limit=300))
    if task.planner_note:
        out.print(plain(f"  {task.planner_note}"), style="dim")


def steps_of(task: Task) -> int | None:
    """How many steps its plan has, None before it is planned."""
    return None if task.plan is None else len(task.plan.steps)


def _followed(client: Client, task_id: str, *, quiet: bool) -> Task:
    if quiet:
        return follow_task(client, task_id, on_event=lambda _: None, notice=lambda _: None)
    out = error_console()
    out.print(f"task {task_id}")
    task = client.api.get(task_id)
    print_plan(task, out)
    print_waiting(task, out)
    with Progress(total_steps=steps_of(task)) as progress:
        return follow_task(client, task_id, on_event=progress.show, notice=progress.notice)


def print_end(task: Task, out: Console) -> None:
    """Why an ended task failed; nothing when it succeeded."""
    failure = task.failure
    if failure is not None:
        where = "" if failure.index is None else f" in step {failure.index} ({failure.step})"
        reason = f", {failure.reason}" if failure.reason else ""
        words = plain(f"{where}: {failure.code}{reason}: {failure.message}", limit=4000)
        out.print(styled(task.status) + words)
