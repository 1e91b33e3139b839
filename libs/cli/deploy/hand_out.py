"""Giving each process its secrets: files in a directory of its own, readable by it alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.process.files import write_atomically

FILE_MODE = 0o400
DIRECTORY_MODE = 0o500


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose directory it is: a name below the common one, and the user that reads it."""

    name: str
    uid: int
    files: Mapping[str, bytes] = field(repr=False)


def hand_out(place: Path, holder: Holder) -> list[str]:
    """Make the holder's files as they are to be; the names of those that were written.

    Each is replaced as a whole, so a reader never sees half of one. Files that the holder is not
    given any more stay. OSError where the directory cannot be written.
    """
    directory = place / holder.name
    directory.mkdir(parents=True, exist_ok=True)
    written = [
        name
        for name, content in holder.files.items()
        if _differs(directory / name, content, uid=holder.uid)
    ]
    for name in written:
        write_atomically(directory / name, holder.files[name], mode=FILE_MODE, owner=holder.uid)
    os.chown(directory, holder.uid, holder.uid)
    directory.chmod(DIRECTORY_MODE)
    return written


def _differs(path: Path, content: bytes, *, uid: int) -> bool:
    try:
        said = path.stat()
        return (said.st_uid, path.read_bytes()) != (uid, content)
    except FileNotFoundError:
        return True
