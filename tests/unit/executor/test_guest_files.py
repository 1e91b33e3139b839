"""The guest stands alone, and its version changes with it."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from services.executor.sandbox import guest_files


def test_guest_imports_itself_and_the_standard_library_alone() -> None:
    for file in guest_files.guest_files():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names, file.name


def test_version_is_of_names_and_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_files, "GUEST_DIRECTORY", tmp_path)
    versions = []
    for name, content in (("a.py", "1"), ("a.py", "2"), ("b.py", "2"), ("c.txt", "no Python")):
        (tmp_path / name).write_text(content)
        versions.append(guest_files.guest_version())

    assert all(re.fullmatch("[0-9a-f]{12}", version) for version in versions)
    assert len(set(versions[:3])) == 3
    assert versions[3] == versions[2]


def test_files_are_those_that_make_a_guest() -> None:
    names = [file.name for file in guest_files.guest_files()]

    assert names == sorted(names)
    assert {"__init__.py", "__main__.py", "keeper.py"} <= set(names)
