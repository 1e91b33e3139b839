"""Where the command line finds its server, and what it says when there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from libs.cli.client import Server, Unreachable
from libs.cli.ready import find_server


def _write(data_dir: Path, **change: object) -> None:
    ready = {
        "url": "http://127.0.0.1:8700/",
        "api_key": "k1",
        "pid": os.getpid(),
        "data_dir": str(data_dir),
        "version": "pawl-0",
        "postgres": {"pid": None, "dsn": "postgresql://h/d"},
        "services": {},
    } | change
    (data_dir / "ready.json").write_text(json.dumps(ready), encoding="utf-8")


def test_the_environment_wins(tmp_path: Path) -> None:
    _write(tmp_path)

    found = find_server({"PAWL_URL": "http://h/", "PAWL_API_KEY": "k2"}, tmp_path)

    assert found == Server(url="http://h", api_key="k2")


def test_the_ready_file_of_a_living_server_is_used(tmp_path: Path) -> None:
    _write(tmp_path)

    assert find_server({}, tmp_path) == Server(url="http://127.0.0.1:8700", api_key="k1")


def test_a_key_in_the_environment_goes_with_the_server_found(tmp_path: Path) -> None:
    _write(tmp_path)

    found = find_server({"PAWL_API_KEY": "k2"}, tmp_path)

    assert found == Server(url="http://127.0.0.1:8700", api_key="k2")


def test_a_url_without_a_key_is_refused(tmp_path: Path) -> None:
    _write(tmp_path)

    with pytest.raises(Unreachable, match="PAWL_API_KEY is not set"):
        find_server({"PAWL_URL": "http://h"}, tmp_path)


def test_without_a_server_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"No server runs here.*pawl up.*PAWL_URL"):
        find_server({}, tmp_path)


def test_a_ready_file_of_an_ended_server_is_not_believed(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, check=True)  # fmt: skip
    _write(tmp_path, pid=int(ended.stdout))

    with pytest.raises(Unreachable, match="names none"):
        find_server({}, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"url": "x", "api_key": "k", "pid": 1}'])
def test_what_is_no_ready_file_is_not_believed(tmp_path: Path, text: str) -> None:
    (tmp_path / "ready.json").write_text(text, encoding="utf-8")

    with pytest.raises(Unreachable, match="is not a ready file"):
        find_server({}, tmp_path)


def test_a_key_is_not_shown_by_accident() -> None:
    assert "secret" not in repr(Server(url="http://h", api_key="secret"))
