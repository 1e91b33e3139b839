"""Records runs: `python -m tests.determinism.record`, or with the names of single cases.

Starts a Pawl of its own, one for each way in which cases want it, and writes `recorded/<name>.json`
with the submission and its trace, by default of every case that has none. To record a case again,
after a new version of a tool, name it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from libs.cli.client import Client, Refused
from libs.cli.stack import await_tool, running_stack
from tests.determinism.submissions import ENVIRONS, SERVED_PORT, SUBMISSIONS
from tests.e2e.tasks import run_and_trace

DIRECTORY = Path(__file__).parent / "recorded"
_NOT_OFFERED = frozenset({"unknown_tool", "tool_unavailable"})


def recorded_runs() -> list[Path]:
    """The files of all recorded runs."""
    return sorted(DIRECTORY.glob("*.json"))


def read_run(path: Path) -> dict[str, Any]:
    """A recorded run: its submission and its trace."""
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return run


def missing_tools(client: Client, trace: dict[str, Any]) -> list[str]:
    """The exact tools of a trace that nobody offers there now."""
    tools = client.pages("/v1/tools", {"limit": 200})
    offered = {tool["digest"]: tool for tool in tools if tool["available"]}
    return [
        f"{name}@{version} (digest {digest[:12]})"
        for name, version, digest in trace["verification"]["tool_set"]
        if digest not in offered
    ]


def record(names: Iterable[str]) -> list[str]:
    """Run these cases and write what came of them; those whose tools are not on offer."""
    DIRECTORY.mkdir(exist_ok=True)
    by_environ: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name in names:
        by_environ.setdefault(tuple(ENVIRONS.get(name, {}).items()), []).append(name)
    with _served():
        refused = [_record(cases, dict(more)) for more, cases in by_environ.items()]
    return [each for some in refused for each in some]


def _record(names: Sequence[str], more: Mapping[str, str]) -> list[str]:
    """The same, in one Pawl with `more` in its environment."""
    refused = []
    environ = {**os.environ, "PAWL_SANDBOX": "none", **more}
    with (
        tempfile.TemporaryDirectory(prefix="pawl-record-") as place,
        running_stack(Path(place) / "data", environ=environ) as stack,
    ):
        if "PAWL_SANDBOX" in more:
            await_tool(stack, "python_sandbox")
        client = Client(stack.server)
        for name in names:
            submission = SUBMISSIONS[name]
            try:
                run = {"submission": submission, "trace": run_and_trace(client, submission)}
            except Refused as error:
                if error.code not in _NOT_OFFERED:
                    raise
                refused.append(f"{name}: {error}")
                continue
            text = json.dumps(run, indent=1, ensure_ascii=False) + "\n"
            (DIRECTORY / f"{name}.json").write_text(text, encoding="utf-8")
    return refused


class _Prices(BaseHTTPRequestHandler):
    """The server that `fetch` asks."""

    def do_GET(self) -> None:
        content = b'{"price": 12.50, "currency": "EUR"}'
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class
        """Say nothing."""


@contextmanager
def _served() -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", SERVED_PORT), _Prices)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def main(arguments: Sequence[str]) -> None:
    """Record the named cases, or those that have no recording."""
    unknown = sorted(set(arguments) - set(SUBMISSIONS))
    if unknown:
        sys.exit(f"no such case: {', '.join(unknown)}; there are {', '.join(SUBMISSIONS)}")
    known = {path.stem for path in recorded_runs()}
    refused = record(arguments or [name for name in SUBMISSIONS if name not in known])
    if refused:
        sys.exit("not recorded, because a tool is not on offer here:\n" + "\n".join(refused))


if __name__ == "__main__":
    main(sys.argv[1:])
