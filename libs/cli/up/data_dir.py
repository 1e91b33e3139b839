"""The directory in which `pawl up` keeps everything, and the lock that makes it one Pawl's own."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.db.pg_install import MAJOR_VERSION
from libs.process.env import ConfigError

ROOTS_PLACE = Path("/var/lib/pawl")


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """PAWL_DATA_DIR; else /var/lib/pawl for root, and pawl in the user's data directory."""
    given = environ.get("PAWL_DATA_DIR", "").strip()
    if given:
        return Path(given).expanduser().absolute()
    if os.geteuid() == 0:
        return ROOTS_PLACE
    shared = environ.get("XDG_DATA_HOME", "").strip()
    # A relative path there is to be ignored, says the XDG Base Directory Specification.
    parent = Path(shared) if shared.startswith("/") else Path.home() / ".local" / "share"
    return parent / "pawl"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDir:
    """Where what lies in a data directory."""

    path: Path

    @property
    def lock(self) -> Path:
        """Held by the running `pawl up`; contains its pid."""
        return self.path / "lock"

    @property
    def ready_file(self) -> Path:
        """Where a running Pawl is to be found."""
        return self.path / "ready.json"

    @property
    def state_file(self) -> Path:
        """Ports and processes, for the next start."""
        return self.path / "state.json"

    @property
    def secrets(self) -> Path:
        """Keys and passwords; closed to others."""
        return self.path / "secrets"

    @property
    def api_key_file(self) -> Path:
        """The operator's key."""
        return self.secrets / "api_key"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.path / "logs"

    @property
    def blobs(self) -> Path:
        """The bytes of large artifacts, unless PAWL_BLOBS names another place."""
        return self.path / "blobs"

    @property
    def postgres(self) -> Path:
        """The embedded server; its major version is in the path, since its files depend on it."""
        return self.path / "pg" / str(MAJOR_VERSION)

    def create(self) -> None:
        """Make what is missing. ConfigError when that is not allowed."""
        try:
            self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
            # Of the two, the server's user must pass the first and has no business in the others.
            self.postgres.parent.mkdir(mode=0o711, exist_ok=True)
            for private in (self.secrets, self.logs):
                private.mkdir(mode=0o700, exist_ok=True)
                # A copy or a backup may have opened them.
                private.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"cannot use {self.path} as data directory ({error.strerror}: {error.filename}): "
                "choose another with --data-dir or PAWL_DATA_DIR"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process; ConfigError names the process that holds it."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot open {self.lock}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
                raise ConfigError(
                    f"Pawl is already running in {self.path} (pid {holder or 'unknown'}): stop it "
                    "first, or choose another directory with --data-dir"
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)
