"""Writing a file so that readers see the old one or the new one, never half of it."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(
    path: Path, content: str | bytes, *, mode: int = 0o600, owner: int | None = None
) -> None:
    """Replace `path` by a file with this content and mode; only root can give it to an `owner`."""
    partial = _partial(path)
    descriptor = _make(partial, mode=mode)
    with os.fdopen(descriptor, "wb") as file:
        if owner is not None:
            os.fchown(descriptor, owner, owner)
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def check_writable(path: Path) -> None:
    """OSError when a file could not be made there now; nothing is left behind."""
    partial = _partial(path)
    os.close(_make(partial, mode=0o600))
    partial.unlink()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _make(partial: Path, *, mode: int) -> int:
    partial.unlink(missing_ok=True)
    return os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
