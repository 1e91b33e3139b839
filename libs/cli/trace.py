"""`pawl trace`: what happened to a task, as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from libs.cli.client import Client
from libs.cli.comparison import divergence_table, outcome_text
from libs.cli.follow import task_path
from libs.cli.output import (
    console,
    plain,
    print_json,
    record,
    seconds_text,
    short_json,
    styled,
    table,
)
from libs.cli.waiting import queue_text
from libs.core.prices import usd_text


def show_trace(client: Client, task_id: str, *, as_json: bool) -> int:
    """Print the trace of a task; 0."""
    trace = client.get(task_path(task_id, "trace"))
    if as_json:
        print_json(trace)
    else:
        print_trace(trace, console())
    return 0


def print_trace(trace: dict[str, Any], out: Console) -> None:
    """Head, plan, steps, events and hashes of a trace, and of a replay what differs."""
    out.print(_head(trace))
    if trace["verification"]["plan"]:
        out.print(_plan(trace["verification"]["plan"]))
    if trace["steps"]:
        out.print(_steps(trace))
    out.print(_events(trace))
    out.print(_hashes(trace))
    if trace.get("replay") and trace["replay"]["first_divergence"]:
        out.print(divergence_table(trace["replay"]["first_divergence"]))


def _head(trace: dict[str, Any]) -> Table:
    failure = trace["failure"]
    summary = trace["summary"]
    members: list[tuple[str, object]] = [
        ("task", trace["task_id"]),
        ("status", styled(trace["status"])),
        ("input", short_json(trace["verification"]["task_input"], limit=300)),
        ("steps", _counts(summary)),
        ("queued for", seconds_text(summary["queue_latency_ms"])),
        ("steps took", seconds_text(summary["total_duration_ms"])),
        ("cost", f"{usd_text(trace['estimated_cost_usd'])} USD"),
    ]
    if summary.get("tokens"):
        members.append(("tokens", summary["tokens"]))
    if trace.get("scheduled_at"):
        members.append(("due at", trace["scheduled_at"]))
    if trace.get("queue"):
        members.append(("waits", queue_text(trace["queue"])))
    if trace.get("cancel_requested_at"):
        members.append(("cancel asked", trace["cancel_requested_at"]))
    if trace["replay_of_task_id"]:
        members.insert(1, ("replay of", trace["replay_of_task_id"]))
    if replay := trace.get("replay"):
        members.insert(2, (f"replayed {replay['mode']}", outcome_text(replay)))
    if failure:
        where = f"step {failure['index']} ({failure['step']}), " if failure["index"] else ""
        members.append(("failure", plain(f"{where}{failure['code']}: {failure['message']}")))
    return record("Task", members)


def _counts(summary: dict[str, Any]) -> str:
    named = ("succeeded", "failed", "running", "interrupted")
    counts = [f"{summary.get(f'{n}_steps', 0)} {n}" for n in named if summary.get(f"{n}_steps")]
    return ", ".join(counts) or "none"


def _plan(plan: dict[str, Any]) -> Table:
    limits = ", ".join(f"{name} {value}" for name, value in plan["limits"].items())
    rows = [(step["step_index"], step["tool"], short_json(step["input"])) for step in plan["steps"]]
    made = table("Plan", ("#", "tool", "input as planned"), rows)
    made.caption, made.caption_justify = limits, "left"
    return made


def _steps(trace: dict[str, Any]) -> Table:
    rows = []
    for step in trace["steps"]:
        came = plain(step["error"]) if step["error"] else short_json(step["output"])
        rows.append(
            (
                step["step_index"],
                step["tool_name"],
                styled(step["status"]),
                seconds_text(step["duration_ms"]),
                short_json(step["input"]),
                came,
            )
        )
    return table("Steps", ("#", "tool", "status", "took", "input", "output or error"), rows)


def _events(trace: dict[str, Any]) -> Table:
    rows = [event_row(event) for event in trace["events"]]
    return table("Events", ("seq", "at", "event", "what"), rows)


def event_row(event: dict[str, Any]) -> tuple[object, ...]:
    """One event as seq, time of day, name and the rest of what it says."""
    payload = {name: value for name, value in event["payload"].items() if name != "at"}
    if set(payload) >= {"from", "to"}:
        before, after = payload.pop("from"), payload.pop("to")
        words = f"{before or 'nothing'} → {after}"
    else:
        words = ""
    rest = " ".join(f"{name}={_word(value)}" for name, value in payload.items())
    return (
        event.get("seq"),
        str(event["created_at"])[11:23],
        str(event["event"]).removeprefix("task."),
        plain(f"{words} {rest}".strip()),
    )


def _word(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def _hashes(trace: dict[str, Any]) -> Table:
    block = trace["verification"]
    rows: list[tuple[str, object]] = [("plan", block["plan_hash"] or "–")]
    rows += [(f"step {s['step_index']}", s["step_hash"] or "–") for s in block["steps"]]
    rows.append(("task", block["task_hash"] or "–"))
    return record(f"Hashes ({block['recipe']})", rows)
