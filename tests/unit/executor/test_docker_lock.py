"""Where the builder of the image locks: where no other user can hold it up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.executor.sandbox.docker_image import private_directory

USER = os.getuid()


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    path = tmp_path / "tmp"
    path.mkdir()
    return path


def test_the_directory_of_the_session_is_taken(runtime: Path, temporary: Path) -> None:
    (runtime / str(USER)).mkdir(mode=0o700)

    assert private_directory(runtime=runtime, temporary=temporary) == runtime / str(USER)
    assert list(temporary.iterdir()) == []


def test_without_one_a_directory_is_made_for_its_owner_alone(
    runtime: Path, temporary: Path
) -> None:
    first = private_directory(runtime=runtime, temporary=temporary)
    again = private_directory(runtime=runtime, temporary=temporary)

    assert first == again == temporary / f"pawl-{USER}"
    assert first.stat().st_mode & 0o777 == 0o700


def test_one_that_others_may_enter_is_not_taken(runtime: Path, temporary: Path) -> None:
    open_to_all = runtime / str(USER)
    open_to_all.mkdir()
    open_to_all.chmod(0o755)

    found = private_directory(runtime=runtime, temporary=temporary)

    assert found == temporary / f"pawl-{USER}"


@pytest.mark.parametrize("taken_by", ["a file", "a link", "a directory for all"])
def test_a_name_that_somebody_took_is_not_used(
    runtime: Path, temporary: Path, taken_by: str
) -> None:
    name = temporary / f"pawl-{USER}"
    match taken_by:
        case "a file":
            name.touch(mode=0o600)
        case "a link":
            (temporary / "elsewhere").mkdir(mode=0o700)
            name.symlink_to(temporary / "elsewhere")
        case _:
            name.mkdir()
            name.chmod(0o777)

    assert private_directory(runtime=runtime, temporary=temporary) is None
