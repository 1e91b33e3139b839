"""What the image is built from: the Dockerfile and the guest's files, as they are installed."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

_GUEST = "guest"
_DOCKERFILE = "Dockerfile"
_VERSION_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContext:
    """The files of a build, by their path in it."""

    files: dict[str, bytes]

    @property
    def version(self) -> str:
        """12 hex digits over all names and contents: another file, another version."""
        digest = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()[:_VERSION_CHARACTERS]

    def archive(self) -> bytes:
        """A tar archive; the same files make the same bytes."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in sorted(self.files.items()):
                # Of nobody and of no time; for others to read alone.
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o444
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


def packaged_context() -> ImageContext:
    """That of the guest which comes with this installation."""
    return context_of(files("services.executor.sandbox") / _GUEST)


def context_of(guest: Traversable) -> ImageContext:
    """That of the guest in a directory: its Python files."""
    dockerfile = files("services.executor.sandbox.image") / _DOCKERFILE
    found = {_DOCKERFILE: dockerfile.read_bytes()}
    for file in guest.iterdir():
        if file.name.endswith(".py"):
            found[f"{_GUEST}/{file.name}"] = file.read_bytes()
    return ImageContext(files=found)
