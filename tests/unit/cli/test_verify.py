"""`pawl verify`: offline, strict, and never a traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libs.cli import trace_file
from libs.core.recorded_trace import NotATrace
from tests.recorded_traces import make_trace
from tests.unit.cli.conftest import Pawl


def _file(tmp_path: Path, trace: Any) -> str:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace), encoding="utf-8")
    return str(path)


def test_verify_exits_0_when_every_hash_matches(pawl: Pawl, tmp_path: Path) -> None:
    done = pawl("verify", _file(tmp_path, make_trace()))

    assert done.code == 0
    assert "Every hash matches." in done.out
    assert make_trace()["summary"]["task_hash"] in done.out


def test_verify_exits_1_and_names_the_first_step_that_differs(pawl: Pawl, tmp_path: Path) -> None:
    trace = make_trace()
    for step in trace["verification"]["steps"][1:]:
        step["output"] = {"result": 5}

    done = pawl("verify", _file(tmp_path, trace))

    assert done.code == 1
    assert "step 2 (math) differs:" in done.out
    assert "1 more differs" in done.out


def test_verify_compares_with_a_hash_that_was_kept(pawl: Pawl, tmp_path: Path) -> None:
    name = _file(tmp_path, make_trace())

    assert pawl("verify", name, "--task-hash", make_trace()["summary"]["task_hash"]).code == 0
    assert pawl("verify", name, "--task-hash", "00").code == 1


def test_verify_with_json_prints_the_report(pawl: Pawl, tmp_path: Path) -> None:
    trace = make_trace()
    trace["verification"]["task_hash"] = "x"

    done = pawl("verify", _file(tmp_path, trace), "--json")

    report = json.loads(done.out)
    assert (done.code, report["holds"], report["first_difference"]) == (1, False, "task")


def test_verify_says_that_a_running_task_has_not_ended(pawl: Pawl, tmp_path: Path) -> None:
    done = pawl("verify", _file(tmp_path, make_trace(state="running", open_step=2)))

    assert (done.code, "The task is running" in done.out) == (0, True)


_DEEP = 200_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not JSON"),
        (b"{} {}", "is not JSON"),
        (b"\xff\xfe{\x00}\x00", "is not UTF-8"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b"null", "is not a JSON object"),
        (b"{}", "has no 'verification'"),
        (b'{"a": 1, "a": 1}', "occurs twice"),
        (b'{"verification": NaN}', "NaN is not a number"),
        (b'{"verification": -Infinity}', "-Infinity is not a number"),
        (b'{"verification": 1e999}', "beyond the range"),
        (b'{"verification": ' + b"9" * 5000 + b"}", "beyond the range"),
        (b"[" * _DEEP, "nested too deeply"),
        (b'{"verification":' * _DEEP, "nested too deeply"),
        (b'{"verification": "\\ud800"}', "is not a JSON object"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_hostile_file_exits_2_with_one_line(
    pawl: Pawl, tmp_path: Path, data: bytes, words: str
) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(data)

    done = pawl("verify", str(path))

    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert words in done.err


@pytest.mark.parametrize("depth", [400, 900])
def test_a_deep_value_inside_a_trace_never_gives_a_traceback(
    pawl: Pawl, tmp_path: Path, depth: int
) -> None:
    value: Any = 1
    for _ in range(depth):
        value = {"$literal": value, "x": 1}
    trace = make_trace()
    trace["verification"]["task_input"] = value
    path = tmp_path / "trace.json"
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit * 4)
    try:
        path.write_text(json.dumps(trace), encoding="utf-8")
    finally:
        sys.setrecursionlimit(limit)

    done = pawl("verify", str(path))

    assert done.code in {1, 2}, done


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            return b" " * min(size, trace_file.MAX_BYTES + 1)

    class Standard:
        buffer = Endless()

    monkeypatch.setattr(sys, "stdin", Standard())

    with pytest.raises(NotATrace, match="larger than 256 MiB"):
        trace_file.read_trace_file("-")


@pytest.mark.parametrize("name", ["/no/such/file", "/"])
def test_a_file_that_cannot_be_read_exits_2(pawl: Pawl, name: str) -> None:
    done = pawl("verify", name)

    assert (done.code, f"{name} cannot be read" in done.err) == (2, True)


def test_verify_needs_no_environment_and_reads_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "libs.cli", "verify", "-"],
        input=json.dumps(make_trace()).encode(),
        capture_output=True,
        env={"PATH": os.defpath},
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_left_is_not_taken_for_a_verdict(tmp_path: Path, options: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "libs.cli", "verify", _file(tmp_path, make_trace()), *options]

    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)

    assert (done.returncode, done.stderr) == (141, b"")


def test_a_terminal_without_utf_8_gets_what_it_can_show(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "libs.cli", "verify", _file(tmp_path, make_trace())]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}

    done = subprocess.run(command, env=ascii_only, capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Every hash matches." in done.stdout
