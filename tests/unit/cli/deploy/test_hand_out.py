"""The files that a process is given: its own, whole, closed to others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libs.cli.deploy.hand_out import Holder, hand_out

ME = os.getuid()


def auth(**files: bytes) -> Holder:
    return Holder(name="auth", uid=ME, files=files)


def test_files_are_readable_by_their_holder_alone(tmp_path: Path) -> None:
    written = hand_out(tmp_path, auth(password=b"p\n", url=b"u\n"))

    assert written == ["password", "url"]
    assert (tmp_path / "auth").stat().st_mode & 0o777 == 0o500
    for name, content in (("password", b"p\n"), ("url", b"u\n")):
        path = tmp_path / "auth" / name
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o777 == 0o400
        assert path.stat().st_uid == ME


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    hand_out(tmp_path, auth(password=b"p\n"))
    before = (tmp_path / "auth" / "password").stat()

    written = hand_out(tmp_path, auth(password=b"p\n"))

    assert written == []
    assert (tmp_path / "auth" / "password").stat().st_ino == before.st_ino


@pytest.mark.skipif(ME != 0, reason="only root writes into a directory that its owner has closed")
def test_only_what_differs_is_written_again(tmp_path: Path) -> None:
    hand_out(tmp_path, auth(password=b"p\n", url=b"u\n"))

    written = hand_out(tmp_path, auth(password=b"p\n", url=b"other\n"))

    assert written == ["url"]
    assert (tmp_path / "auth" / "url").read_bytes() == b"other\n"


@pytest.mark.skipif(ME != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_given_to_its_holder(tmp_path: Path) -> None:
    hand_out(tmp_path, auth(password=b"p\n"))

    written = hand_out(tmp_path, Holder(name="auth", uid=65532, files={"password": b"p\n"}))

    assert written == ["password"]
    assert (tmp_path / "auth" / "password").stat().st_uid == 65532
    assert (tmp_path / "auth").stat().st_uid == 65532


def test_contents_are_not_shown() -> None:
    assert "hidden" not in repr(auth(password=b"hidden"))
