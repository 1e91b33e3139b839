"""The data directory and the files in it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from libs.cli.up import ready_file
from libs.cli.up.data_dir import DataDir, default_data_dir
from libs.cli.up.processes import ProcessMark, environment_of, mark_of
from libs.cli.up.ready_file import Instance, PostgresEntry, ReadyFile
from libs.cli.up.state import State, StateFile
from libs.process.env import ConfigError
from libs.process.files import check_writable, write_atomically


def make_ready(pid: int) -> ReadyFile:
    return ReadyFile(
        url="http://127.0.0.1:8080",
        api_key="pawl_live_x",
        pid=pid,
        data_dir="/var/lib/pawl",
        version="pawl-1",
        postgres=PostgresEntry(pid=7, dsn="postgresql://pawl_inspector@/pawl"),
        services={
            "auth": (Instance(instance="auth-1", address="h:1", metrics_address="h:2", pid=8),)
        },
    )


def test_ready_file_comes_back_while_its_process_lives(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    ready_file.write(path, make_ready(os.getpid()))

    assert ready_file.read(path) == make_ready(os.getpid())
    assert path.stat().st_mode & 0o777 == 0o600

    ready_file.write(path, replace(make_ready(os.getpid()), pid=2**22 + 1))
    assert ready_file.read(path) is None
    assert ready_file.read(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1}', "null"])
def test_other_files_are_not_ready_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "ready.json").write_text(text)

    with pytest.raises(ValueError, match="not a ready file"):
        ready_file.read(tmp_path / "ready.json")


def test_state_survives_and_knows_what_was_started(tmp_path: Path) -> None:
    first = StateFile(tmp_path / "state.json")
    first.set_ports({"a": 1})
    first.set_ports({"b": 2})
    first.set_process("auth-1", ProcessMark(pid=7, started=8))

    second = StateFile(tmp_path / "state.json")

    assert second.state == State(
        ports={"a": 1, "b": 2}, processes={"auth-1": ProcessMark(pid=7, started=8)}
    )
    second.forget_processes()
    assert StateFile(tmp_path / "state.json").state == State(ports={"a": 1, "b": 2})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"ports": 1}',
        '{"ports": {}, "processes": [1]}',
        '{"ports": {"a": 65536}, "processes": {}}',
        '{"ports": {"a": 0}, "processes": {}}',
        '{"ports": {"a": 1e999}, "processes": {}}',
    ],
)
def test_state_that_cannot_be_understood_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)

    assert StateFile(tmp_path / "state.json").state == State()


def test_mark_tells_processes_apart() -> None:
    mark = mark_of(os.getpid())

    assert mark is not None
    assert mark.lives()
    assert not replace(mark, started=mark.started + 1).lives()
    assert mark_of(2**22 + 1) is None
    assert "PATH" in environment_of(os.getpid())


def test_file_is_replaced_in_one_go(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomically(path, "one")
    write_atomically(path, "two", mode=0o640)

    assert path.read_text() == "two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_place_for_a_file_is_tried_without_leaving_one(tmp_path: Path) -> None:
    check_writable(tmp_path / "x")

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        check_writable(tmp_path / "nowhere" / "x")


def test_keys_and_logs_are_closed_to_others_again(tmp_path: Path) -> None:
    data_dir = DataDir(path=tmp_path)
    data_dir.create()
    data_dir.secrets.chmod(0o755)

    data_dir.create()

    assert data_dir.secrets.stat().st_mode & 0o777 == 0o700


def test_lock_is_held_by_one_and_names_it(tmp_path: Path) -> None:
    data_dir = DataDir(path=tmp_path)

    with (
        data_dir.locked(),
        pytest.raises(ConfigError, match=rf"already running .* \(pid {os.getpid()}\)"),
        data_dir.locked(),
    ):
        pass
    with data_dir.locked():
        assert data_dir.lock.read_text() == f"{os.getpid()}\n"


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="--data-dir"):
        DataDir(path=tmp_path / "file" / "data").create()


def test_default_place_depends_on_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir({}) == Path("/var/lib/pawl")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_data_dir({}) == Path.home() / ".local/share/pawl"
    assert default_data_dir({"XDG_DATA_HOME": "relative"}) == Path.home() / ".local/share/pawl"
    assert default_data_dir({"XDG_DATA_HOME": "/x"}) == Path("/x/pawl")
    assert default_data_dir({"XDG_DATA_HOME": "/x", "PAWL_DATA_DIR": "/y"}) == Path("/y")
