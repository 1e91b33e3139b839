"""`pawl demo`: start Pawl, run real tasks through REST, show and verify what happened, stop."""

from __future__ import annotations

import copy
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.rule import Rule

from libs.cli.client import Client, Server, Unreachable
from libs.cli.demo_tasks import INVOICE, TASKS, DemoTask
from libs.cli.follow import follow_task
from libs.cli.output import console, plain, pretty_json, styled
from libs.cli.progress import Progress
from libs.cli.ready import api_key_of
from libs.cli.run import print_end, print_plan, steps_of
from libs.cli.stack import StackFailed, running_stack
from libs.cli.tools import PATH as TOOLS_PATH
from libs.cli.trace import print_trace
from libs.cli.verify import print_report
from libs.client.tasks import Task
from libs.core.verification import verify


def run_demo(url: str | None) -> int:
    """Run the demo against `url`, or against a Pawl of its own; 0 when all came out as said."""
    began = time.monotonic()
    out = console()
    # As on Ctrl-C, the temporary directory has to go.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _server(url) as server:
            wrong = _Demo(Client(server)).run()
    except StackFailed as error:
        out.print(plain(str(error), limit=5000), style="red")
        return 1
    out.print(Rule())
    took = time.monotonic() - began
    if wrong:
        out.print(f"Not as said: {len(wrong)}", style="bold red")
        for words in wrong:
            out.print(plain(f"  {words}", limit=500))
        return 1
    words = f"All came out as said, in {took:.1f} s. Your turn: {_this_command()} up"
    out.print(plain(words, limit=500), style="bold green", soft_wrap=True)
    return 0


def _this_command() -> str:
    """What to type here for this program: after `make demo` it need not be on the PATH."""
    program, here = Path(sys.argv[0]).absolute(), Path.cwd()
    if program.name != "pawl" or not program.is_relative_to(here):
        return "pawl"
    return str(program.relative_to(here))


@contextmanager
def _server(url: str | None) -> Iterator[Server]:
    if url is not None:
        key = api_key_of(os.environ)
        if not key:
            raise Unreachable("set PAWL_API_KEY to a key of that server")
        yield Server(url=url, api_key=key)
        return
    out = console()
    with tempfile.TemporaryDirectory(prefix="pawl-demo-") as name:
        out.print("Starting Pawl in a temporary directory …", style="dim")
        with running_stack(Path(name) / "data") as stack:
            processes = ", ".join(stack.pids)
            out.print(f"Ready after {stack.ready_seconds:.1f} s at {stack.ready.url}")
            out.print(plain(f"Processes: {processes}"), style="dim")
            yield stack.server
            out.print("Stopping …", style="dim")


class _Demo:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._out = console()
        self._wrong: list[str] = []

    def run(self) -> list[str]:
        """Run everything; what came out otherwise than said."""
        offered = {tool["name"] for tool in self._client.pages(TOOLS_PATH) if tool["available"]}
        traces = {
            task.title: self._run_task(task)
            for task in TASKS
            if task.needs is None or task.needs in offered
        }
        if left_out := {task.needs for task in TASKS if task.needs} - offered:
            words = f"Left out, as no executor offers it: {', '.join(sorted(left_out))}"
            self._out.print(words, style="dim")
        self._run_again(traces[INVOICE.title])
        self._tamper(traces[INVOICE.title])
        return self._wrong

    def _run_task(self, wanted: DemoTask) -> dict[str, Any]:
        self._head(wanted.title)
        task = self._submit(wanted.body)
        print_end(task, self._out)
        if task.status == "succeeded":
            self._out.print(pretty_json(task.result), soft_wrap=True)
        found = self._client.api.trace(task)
        trace = dict(found.raw)
        print_trace(found, self._out)
        report = found.verify()
        if report.holds:
            subjects = ", ".join(check.subject for check in report.checks)
            self._out.print(plain(f"Every hash matches: {subjects}", limit=500), style="green")
        else:
            print_report(report)
            self._wrong.append(f"{wanted.title}: its trace does not verify")
        if words := wanted.contradiction(dict(task.raw), trace):
            self._wrong.append(f"{wanted.title}: {words}")
        return trace

    def _submit(self, body: dict[str, Any]) -> Task:
        api = self._client.api
        task = api.get(api.submit(**body))
        print_plan(task, self._out)
        with Progress(total_steps=steps_of(task), out=self._out) as progress:
            return follow_task(
                self._client, task.task_id, on_event=progress.show, notice=progress.notice
            )

    def _run_again(self, first: dict[str, Any]) -> None:
        self._head("The first task again, its JSON written in another order: the same hashes")
        task = self._submit(_reordered(INVOICE.body))
        again = self._client.api.trace(task).raw["summary"]
        same = all(again[name] == first["summary"][name] for name in ("task_hash", "step_hashes"))
        self._out.print(f"task hash {again['task_hash']}: ", end="")
        self._out.print(styled("holds" if same else "differs"))
        if not same:
            self._wrong.append("the first task run again has other hashes")

    def _tamper(self, trace: dict[str, Any]) -> None:
        self._head("A changed trace: the tax of step 2 becomes 5.70; verification must find it")
        forged = copy.deepcopy(trace)
        forged["verification"]["steps"][1]["output"] = {"result": 5.7}
        forged["steps"][1]["output"] = {"result": 5.7}
        report = verify(forged)
        print_report(report)
        first = report.first_difference
        if first is None or not first.subject.startswith("step 2 "):
            self._wrong.append("the changed trace was not found out at step 2")

    def _head(self, title: str) -> None:
        self._out.print()
        self._out.print(Rule(title, align="left"))


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reordered(value[key]) for key in reversed(value)}
    return [_reordered(item) for item in value] if isinstance(value, list) else value
