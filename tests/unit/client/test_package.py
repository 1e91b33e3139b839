"""`import pawl`: what it offers, and how little it loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import pawl
from tests.recorded_traces import make_trace

ROOT = Path(__file__).parents[3]
SERVER = ("grpc", "google", "pydantic", "fastapi", "starlette", "psycopg", "sqlalchemy", "orjson")
COMMAND = ("typer", "rich", "structlog")


def _loaded(program: str, *args: str) -> set[str]:
    """The packages that a program has imported at its end."""
    ask = (
        "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{program}\n{ask}", *args],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_loads_nothing_of_the_server_and_no_http() -> None:
    loaded = _loaded("import pawl")

    assert loaded.isdisjoint({*SERVER, *COMMAND, "httpx2", "anyio"})
    assert "libs" in loaded


def test_a_client_loads_nothing_of_the_server() -> None:
    loaded = _loaded("import pawl; pawl.Client('http://127.0.0.1:1', 'k').close()")

    assert loaded.isdisjoint({*SERVER, *COMMAND})
    assert "httpx2" in loaded


@pytest.mark.parametrize("command", [["--help"], ["verify", "-h"]])
def test_the_command_line_loads_no_http_before_it_asks(command: list[str]) -> None:
    program = (
        "import sys; sys.argv[0] = 'pawl'\n"
        "from libs.cli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    )

    assert "httpx2" not in _loaded(program, *command)


def test_all_that_is_offered_is_there() -> None:
    assert [name for name in pawl.__all__ if not hasattr(pawl, name)] == []


def test_the_types_are_offered_to_type_checkers() -> None:
    assert (ROOT / "pawl" / "py.typed").is_file()
    assert (ROOT / "libs" / "py.typed").is_file()


def test_a_saved_trace_is_verified_offline() -> None:
    trace = json.loads(json.dumps(make_trace()))

    assert pawl.verify(trace).holds
    assert pawl.verify(trace["verification"]).holds
    assert pawl.verify(pawl.read_trace(trace)).holds
    assert not pawl.verify(trace, expected_task_hash="00" * 32).holds


@pytest.mark.parametrize("value", [{}, {"task_id": "x"}])
def test_what_is_no_trace_is_told(value: dict[str, str]) -> None:
    with pytest.raises(pawl.NotATrace):
        pawl.verify(value)
    with pytest.raises(pawl.NotATrace):
        pawl.read_trace(value)
