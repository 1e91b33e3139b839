"""Both versions of compose that people have read the file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


@pytest.mark.parametrize("command", [["docker", "compose"], ["docker-compose"]])
def test_both_versions_of_compose_read_the_file(command: list[str]) -> None:
    words = " ".join(command)
    if shutil.which(command[0]) is None:
        pytest.skip(f"{words} is not installed")
    known = subprocess.run([*command, "version"], capture_output=True, check=False)
    if known.returncode != 0:
        pytest.skip(f"{words} is not installed")

    done = subprocess.run(
        [*command, "-f", str(COMPOSE), "config", "-q"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
