"""What `pawl up` says to whoever started it."""

from __future__ import annotations

import json
import shlex
from typing import IO

from rich.console import Console
from rich.text import Text

from libs.cli.up.ready_file import ReadyFile
from libs.cli.up.supervisor import Trouble

_EXAMPLE = {"task_definition": {"expression": "6 * 7"}}


class _LastingConsole(Console):
    def on_broken_pipe(self) -> None:
        """Fall silent; a console that only prints would leave the process here."""
        self.quiet = True


class UpConsole:
    """Lines for people. A console that has gone away is no reason to stop serving."""

    def __init__(self, file: IO[str] | None = None, *, width: int | None = None) -> None:
        self._console = _LastingConsole(file=file, width=width)

    def opening(self, *, version: str, data_dir: str) -> None:
        """The first line."""
        self._print(Text.assemble((version, "bold"), f"  data in {data_dir}"))

    def ready(self, name: str, *, seconds: float, again: bool) -> None:
        """A process serves."""
        words = " is back" if again else ""
        self._print(Text.assemble(("✓ ", "green"), f"{name}{words}", (f"  {seconds:.1f} s", "dim")))

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self._print(Text.assemble(("· ", "dim"), text))

    def trouble(self, trouble: Trouble) -> None:
        """A process ended or did not start."""
        self._print(
            Text.assemble(
                ("✗ ", "red"),
                (trouble.name, "bold"),
                f": {trouble.what}; starting it again in {trouble.pause_seconds:.1f} s",
            )
        )
        self._print(Text(f"  log: {trouble.log_path}", style="dim"))
        if trouble.last_line:
            self._print(Text(f"  last line: {readable(trouble.last_line)}", style="dim"))

    def failed(self, message: str) -> None:
        """It cannot go on."""
        self._print(Text.assemble(("pawl up: ", "bold red"), message))

    def ready_to_use(self, ready: ReadyFile, *, sandbox: str | None, seconds: float) -> None:
        """Everything serves: where, with which key, what runs code, and something to paste."""
        self._print(Text(f"\nReady in {seconds:.1f} s. Ctrl-C stops it.\n", style="bold green"))
        self._print(Text.assemble("  URL  ", (ready.url, "bold")))
        self._print(Text.assemble("  Key  ", (ready.api_key, "bold")))
        code = {None: "nobody knows", "none": "no sandbox, plans with code are refused"}
        self._print(Text.assemble("  Code ", (code.get(sandbox, str(sandbox)), "bold"), "\n"))
        self._print(Text(f"{_curl(ready)}\n"))

    def stopping(self) -> None:
        """Asked to end."""
        self._print(Text("\nStopping…", style="bold"))

    def stopped(self, *, seconds: float) -> None:
        """Everything has ended."""
        self._print(Text(f"Stopped in {seconds:.1f} s.", style="bold"))

    def _print(self, text: Text) -> None:
        try:
            self._console.print(text, soft_wrap=True, highlight=False)
        except OSError:
            # The terminal is gone, and with it everybody who could read.
            self._console.quiet = True


def readable(line: str) -> str:
    """A line of a log for people: of a JSON line the level, the event and what went wrong."""
    try:
        said = json.loads(line)
        what = said.get("error") or str(said.get("exception", "")).strip().rpartition("\n")[2]
        return f"{said['level']}: {said['event']}" + (f": {what}" if what else "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return line


def _curl(ready: ReadyFile) -> str:
    return (
        f"  curl -X POST '{ready.url}/api/v1/tasks/execute?wait=10' \\\n"
        f"    -H 'Authorization: Bearer {ready.api_key}' \\\n"
        "    -H 'Content-Type: application/json' \\\n"
        f"    --data {shlex.quote(json.dumps(_EXAMPLE))}"
    )
