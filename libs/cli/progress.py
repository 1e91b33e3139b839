"""Shows a task's events as they happen: a line per finished step, a spinner for the running one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.text import Text

from libs.cli.output import error_console, plain, seconds_text, styled
from libs.client.tasks import Event

_MARKS = {"succeeded": ("✓", "green"), "failed": ("✗", "red")}


class Progress:
    """Writes to standard error, so that the result alone is on standard output."""

    def __init__(self, *, total_steps: int | None = None, out: Console | None = None) -> None:
        self._out = out or error_console()
        self._total = total_steps
        self._started: dict[int, datetime] = {}
        self._spinner = self._out.status("waiting")

    def __enter__(self) -> Self:
        self._spinner.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._spinner.stop()

    def show(self, event: Event) -> None:
        """Show one event of the task's stream."""
        payload = event.payload
        match event.event:
            case "task.status_transition":
                self._spinner.update(plain(payload.get("to", "")))
                self._out.print(Text("  → ", "dim") + styled(str(payload.get("to"))))
            case "task.step_started":
                index = int(payload.get("step_index", 0))
                self._started[index] = _time(payload)
                self._spinner.update(self._step(payload) + Text(" running"))
            case "task.step_finished":
                self._finished(payload)
            case _:
                words = plain(payload.get("message", ""))
                self._out.print(Text(f"    {event.event.removeprefix('task.')} ") + words)

    def notice(self, words: str) -> None:
        """Say something about the following itself."""
        self._out.print(plain(words), style="yellow")

    def _finished(self, payload: Mapping[str, Any]) -> None:
        mark, style = _MARKS.get(str(payload.get("status")), ("?", ""))
        line = Text("    ") + Text(mark, style) + Text(" ") + self._step(payload)
        began = self._started.get(int(payload.get("step_index", 0)))
        if began is not None:
            milliseconds = (_time(payload) - began).total_seconds() * 1000
            line += Text(f"  {seconds_text(milliseconds)}", "dim")
        if payload.get("failure_code"):
            line += Text("  ") + plain(payload["failure_code"])
        self._out.print(line)

    def _step(self, payload: Mapping[str, Any]) -> Text:
        of = f"/{self._total}" if self._total else ""
        return Text(f"step {payload.get('step_index')}{of} ") + plain(payload.get("tool", ""))


def _time(payload: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(str(payload["at"]))
