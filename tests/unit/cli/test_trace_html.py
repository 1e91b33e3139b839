"""`pawl trace TASK|FILE --html OUT`: where the page comes from, and where it goes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.drawn_traces import make_timed_trace
from tests.html_page import read_page
from tests.recorded_traces import TASK_ID
from tests.unit.cli.conftest import Pawl
from tests.unit.cli.fake_server import FakeServer

_TRACE = f"GET /api/v1/tasks/{TASK_ID}/trace"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return _save(tmp_path, make_timed_trace())


def _save(directory: Path, trace: dict[str, Any]) -> Path:
    path = directory / "trace.json"
    path.write_text(json.dumps(trace), encoding="utf-8")
    return path


def test_a_saved_trace_is_drawn_without_any_server(
    pawl: Pawl, fake: FakeServer, saved: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.html"

    done = pawl("trace", str(saved), "--html", str(out))

    assert (done.code, done.err, fake.asked) == (0, "", [])
    assert done.out.startswith(f"{out}: ")
    assert read_page(out.read_text(encoding="utf-8")).one("h1").text == "Task ✓ succeeded"


def test_the_trace_of_a_task_is_drawn_from_the_server(
    pawl: Pawl, fake: FakeServer, tmp_path: Path
) -> None:
    fake.json(_TRACE, make_timed_trace())
    out = tmp_path / "out.html"

    done = pawl("trace", TASK_ID, "--html", str(out))

    assert done.code == 0
    assert TASK_ID in read_page(out.read_text(encoding="utf-8")).one("head").one("title").text


def test_a_task_is_not_taken_for_a_file_of_its_name(
    pawl: Pawl, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / TASK_ID).write_text("{}", encoding="utf-8")
    fake.json(_TRACE, make_timed_trace())

    assert pawl("trace", TASK_ID).code == 0


def test_a_page_replaces_the_one_before_and_leaves_nothing_beside_it(
    pawl: Pawl, saved: Path, tmp_path: Path
) -> None:
    out, link = tmp_path / "out.html", tmp_path / "link.html"
    out.write_text("old", encoding="utf-8")
    link.symlink_to(out)

    pawl("trace", str(saved), "--html", str(link))

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "link.html",
        "out.html",
        "trace.json",
    ]
    assert link.is_symlink()
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_page_can_be_read_by_those_whom_it_is_handed_to(
    pawl: Pawl, saved: Path, tmp_path: Path
) -> None:
    before = os.umask(0o022)
    try:
        pawl("trace", str(saved), "--html", str(tmp_path / "out.html"))
    finally:
        os.umask(before)

    assert (tmp_path / "out.html").stat().st_mode & 0o777 == 0o644


def test_a_dash_is_standard_output(pawl: Pawl, saved: Path) -> None:
    done = pawl("trace", str(saved), "--html", "-")

    assert done.code == 0
    assert read_page(done.out).one("h1").text == "Task ✓ succeeded"


def test_a_pipe_is_written_to(pawl: Pawl, saved: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    try:
        done = pawl("trace", str(saved), "--html", str(pipe))
        begin = os.read(reader, 15)
    finally:
        os.close(reader)

    assert (done.code, begin) == (0, b"<!DOCTYPE html>")


def test_a_changed_trace_is_drawn_and_said(pawl: Pawl, tmp_path: Path) -> None:
    trace = make_timed_trace()
    trace["verification"]["steps"][1]["output"] = {"result": 5}

    done = pawl("trace", str(_save(tmp_path, trace)), "--html", str(tmp_path / "out.html"))

    assert (done.code, "its hashes do not match" in done.out) == (0, True)


def test_a_saved_trace_is_shown_as_tables_and_as_json_too(pawl: Pawl, saved: Path) -> None:
    tables, as_json = pawl("trace", str(saved)), pawl("trace", str(saved), "--json")

    assert "Hashes (pawl:v1)" in tables.out
    assert json.loads(as_json.out) == make_timed_trace()


def test_a_trace_comes_from_standard_input(
    pawl: Pawl, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saved.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        done = pawl("trace", "-", "--html", str(tmp_path / "out.html"))

    assert done.code == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "it is not an object"),
        ('{"task_id": "x"}', "it has no 'status'"),
        ('{"a": 1, "a": 2}', "occurs twice"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_trace_is_named_with_the_reason(
    pawl: Pawl, tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "trace.json"
    path.write_text(content, encoding="utf-8")

    done = pawl("trace", str(path), "--html", str(tmp_path / "out.html"))

    assert done.code == 2
    assert f"{path}: " in done.err
    assert words in done.err
    assert not (tmp_path / "out.html").exists()


def test_a_file_that_is_not_there_is_named(pawl: Pawl, fake: FakeServer) -> None:
    done = pawl("trace", "/no/such/trace.json", "--html", "x.html")

    assert (done.code, fake.asked) == (2, [])
    assert "/no/such/trace.json cannot be read: No such file" in done.err


def test_a_place_that_cannot_be_written_is_named(pawl: Pawl, saved: Path) -> None:
    done = pawl("trace", str(saved), "--html", "/no/such/directory/x.html")

    assert done.code == 2
    assert "--html: /no/such/directory/x.html cannot be written: No such file" in done.err


def test_a_page_and_json_at_once_are_refused(pawl: Pawl, saved: Path) -> None:
    done = pawl("trace", str(saved), "--html", "x.html", "--json")

    assert (done.code, "either --html FILE or --json" in done.err) == (2, True)
