from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from libs.cli.up.console import UpConsole, readable
from libs.cli.up.supervisor import Trouble


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ImportError: no module x", "ImportError: no module x"),
        ('{"level": "info", "event": "serving"}', "info: serving"),
        ('{"level": "error", "event": "lost", "error": "no route"}', "error: lost: no route"),
        (
            json.dumps(
                {
                    "level": "error",
                    "event": "process failed",
                    "exception": "Traceback …\n  File …\nRuntimeError: no room",
                }
            ),
            "error: process failed: RuntimeError: no room",
        ),
        ('{"half": ', '{"half": '),
        ("[1]", "[1]"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_last_line_is_readable(line: str, words: str) -> None:
    assert readable(line) == words


def test_trouble_says_what_when_and_where_to_look() -> None:
    written = io.StringIO()
    trouble = Trouble(
        name="auth-1",
        what="killed by SIGKILL",
        log_path=Path("/d/logs/auth.log"),
        last_line="[bold]not markup[/bold]",
        pause_seconds=0.2,
        hopeless=False,
    )

    UpConsole(written, width=20).trouble(trouble)

    assert written.getvalue() == (
        "✗ auth-1: killed by SIGKILL; starting it again in 0.2 s\n"
        "  log: /d/logs/auth.log\n"
        "  last line: [bold]not markup[/bold]\n"
    )


def test_console_that_went_away_is_no_error() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    console = UpConsole(Gone())

    console.note("one")
    console.note("two")
