"""The guest's files on this host, and which guest they make."""

from __future__ import annotations

import hashlib
from pathlib import Path

GUEST_DIRECTORY = Path(__file__).parent / "guest"
_VERSION_CHARACTERS = 12


def guest_files() -> list[Path]:
    """The Python files of the guest, sorted by name."""
    return sorted(GUEST_DIRECTORY.glob("*.py"))


def guest_version() -> str:
    """12 hex digits over all names and contents: another file, another version."""
    digest = hashlib.sha256()
    for file in guest_files():
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:_VERSION_CHARACTERS]
