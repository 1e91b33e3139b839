"""PostgreSQL from the wheel, run as a child of this process over a private socket.

The server never listens on TCP. Its socket lies in a directory that only its own user may enter;
the owner of the database is let in by the operating system's word on who connects (peer), the roles
of the services by password.

The data directory may lie under directories that the server's user cannot enter: the child is
started inside it, and addresses everything from there.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from signal import SIGINT
from typing import Self

import psycopg

from libs.db.pg_install import (
    CLEAN_ENV,
    SHARED_PLACE,
    choose_user,
    find_binaries,
    locate_package,
    run_as,
)
from libs.db.pg_leftover import end_leftover
from libs.db.roles import to_url
from libs.process.child import Child, ChildSpec, OsUser, describe_exit, last_log_line, start_child
from libs.process.env import ConfigError

SUPERUSER = "postgres"
DATABASE = "pawl"
STOP_SECONDS = 30.0
# Recovery after a crash reads up to a gigabyte of log; the process is watched meanwhile.
START_SECONDS = 300.0
_RETRY_SECONDS = 0.015
_SOCKET_PATH_BYTES = 107
_SHORT_PLACES = ("/run", "/tmp")  # noqa: S108 - a private directory is made in there
_HERE = "/proc/self/cwd"

_HBA = """\
# Written at every start.
local all {superuser} peer map=pawl
local all all scram-sha-256
"""


class EmbeddedPostgresError(Exception):
    """PostgreSQL did not start; the message says why, as its log does."""


class EmbeddedPostgres:
    """One PostgreSQL server with its data in `data_dir`, called `<data>/pg/18` by `pawl up`.

    `prepare()` once, then `start()` (again after each death), `stop()` at the end. Or `async with`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        log_path: Path,
        user: str | None = None,
        max_connections: int = 100,
        fsync: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._cluster = self._data_dir / "cluster"
        self._log_path = log_path
        self._wanted_user = user
        self._settings = {
            "max_connections": str(max_connections),
            "fsync": "on" if fsync else "off",
            "cluster_name": "pawl",
            # Four processes less: everything hot is read by index, and nobody subscribes.
            "io_method": "sync",
            "max_logical_replication_workers": "0",
            **(settings or {}),
        }
        self._user: OsUser | None = None
        self._binaries = Path()
        self._socket_dir = self._data_dir / "run"
        self._child: Child | None = None

    async def __aenter__(self) -> Self:
        self.prepare()
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """The postmaster's process id; raises RuntimeError before the first start."""
        return self._started().pid

    @property
    def owner_dsn(self) -> str:
        """The URL of the database `pawl` for its owner, who is let in without a password."""
        return self._dsn(DATABASE)

    def prepare(self) -> None:
        """Choose the user, find the programs, create the cluster if there is none.

        Raises ConfigError when this machine or directory does not allow it, saying what to do.
        """
        try:
            self._data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot create {self._data_dir}: {error.strerror}") from error
        existing = self._cluster if self._cluster.exists() else self._data_dir
        self._user = choose_user(existing, wanted=self._wanted_user)
        self._check_owner()
        self._binaries = find_binaries(
            locate_package(), places=(self._data_dir, SHARED_PLACE), user=self._user
        )
        if not self._cluster.exists():
            self._init_cluster()
        self._socket_dir = self._make_socket_dir()

    async def start(self, *, timeout_seconds: float = START_SECONDS) -> None:
        """Start the server and wait until it answers; then make sure of the database `pawl`.

        A server that a dead parent left behind in this directory is ended first. Raises
        EmbeddedPostgresError when the server ends while it starts.
        """
        await end_leftover(self._cluster)
        if not self._socket_dir.exists():
            self._socket_dir = self._make_socket_dir()
        self._write_access_files()
        self._child = await start_child(self._spec())
        try:
            await asyncio.wait_for(self._answers(), timeout_seconds)
        except BaseException:
            await self._end_server()
            raise

    async def wait(self) -> int:
        """Wait until the server ends, and return its exit code."""
        return await self._started().wait()

    async def stop(self) -> None:
        """End all sessions and the server (a fast shutdown); nothing stays outside `data_dir`."""
        await self._end_server()
        self._drop_short_socket_dir()

    async def _end_server(self) -> None:
        if self._child is not None:
            await self._child.stop(grace_seconds=STOP_SECONDS)

    def _started(self) -> Child:
        if self._child is None:
            raise RuntimeError("the server was never started")
        return self._child

    def _dsn(self, database: str) -> str:
        return to_url({"user": SUPERUSER, "dbname": database, "host": str(self._socket_dir)})

    def _spec(self) -> ChildSpec:
        # From inside, the usual place of the socket is short however long its path is.
        private = self._socket_dir == self._data_dir / "run"
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": "../run" if private else str(self._socket_dir),
            **self._settings,
        }
        options = tuple(part for item in settings.items() for part in ("-c", "=".join(item)))
        return ChildSpec(
            name="postgres",
            argv=(str(self._binaries / "postgres"), "-D", _HERE, *options),
            env=CLEAN_ENV,
            log_path=self._log_path,
            cwd=self._cluster,
            user=self._user,
            stop_signal=SIGINT,
            death_signal=SIGINT,
        )

    async def _answers(self) -> None:
        """Return when a session could be opened; raise when the server has ended instead."""
        child = self._started()
        while child.exit_code is None:
            try:
                await self._ensure_database()
            except psycopg.OperationalError as error:
                if "authentication failed" in str(error) or "pg_hba.conf" in str(error):
                    raise EmbeddedPostgresError(f"PostgreSQL refuses its owner: {error}") from error
                # It does not listen yet, or recovers; its end is seen above.
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return
        raise EmbeddedPostgresError(
            f"PostgreSQL did not start ({describe_exit(child.exit_code)}): "
            f"{last_log_line(self._log_path) or 'it said nothing'}; its log is {self._log_path}"
        )

    async def _ensure_database(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self._dsn("postgres"), autocommit=True, connect_timeout=10
        ) as connection:
            found = await connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
            )
            if await found.fetchone() is None:
                await connection.execute(f"CREATE DATABASE {DATABASE}")

    def _check_owner(self) -> None:
        uid = os.geteuid() if self._user is None else self._user.uid
        if self._cluster.exists() and self._cluster.stat().st_uid != uid:
            owner = self._cluster.stat().st_uid
            raise ConfigError(
                f"{self._cluster} belongs to user id {owner}, PostgreSQL would run as {uid}: start "
                "Pawl as the user who made it, or as root"
            )

    def _init_cluster(self) -> None:
        """Run initdb beside the final place: a broken-off attempt is never taken for a cluster."""
        partial = self._data_dir / "cluster.partial"
        shutil.rmtree(partial, ignore_errors=True)
        self._make_private(partial)
        done = run_as(
            (
                *(str(self._binaries / "initdb"), "-D", _HERE, "-U", SUPERUSER),
                *(
                    "--auth-local=peer",
                    "--auth-host=reject",
                    "--encoding=UTF8",
                    "--no-instructions",
                ),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums"),
                *(("--no-sync",) if self._settings["fsync"] == "off" else ()),
            ),
            user=self._user,
            cwd=partial,
        )
        if done.returncode != 0:
            raise EmbeddedPostgresError(f"initdb failed: {done.stdout.strip()}")
        partial.rename(self._cluster)

    def _make_socket_dir(self) -> Path:
        """A directory for the socket whose path fits into a socket address."""
        usual = self._data_dir / "run"
        self._drop_short_socket_dir()
        self._make_private(usual)
        if len(os.fsencode(usual / ".s.PGSQL.5432")) <= _SOCKET_PATH_BYTES:
            return usual
        for place in _SHORT_PLACES:
            try:
                short = Path(tempfile.mkdtemp(prefix="pawl-", dir=place))
            except OSError:
                continue
            self._give(short)
            self._short_note.write_text(str(short), encoding="utf-8")
            return short
        raise ConfigError(
            f"the path {usual} is too long for a socket, and none of {', '.join(_SHORT_PLACES)} "
            "is writable: choose a data directory with a shorter path"
        )

    @property
    def _short_note(self) -> Path:
        """Says which directory elsewhere is this server's, also to the next one."""
        return self._data_dir / "socket_dir"

    def _drop_short_socket_dir(self) -> None:
        if self._short_note.exists():
            shutil.rmtree(self._short_note.read_text(encoding="utf-8"), ignore_errors=True)
            self._short_note.unlink()

    def _write_access_files(self) -> None:
        """Write who may connect: the superuser from this process's user, the others by password."""
        uids = {os.geteuid(), *([] if self._user is None else [self._user.uid])}
        names = sorted(pwd.getpwuid(uid).pw_name for uid in uids)
        self._write("pg_hba.conf", _HBA.format(superuser=SUPERUSER))
        self._write("pg_ident.conf", "".join(f'pawl "{name}" {SUPERUSER}\n' for name in names))

    def _write(self, name: str, text: str) -> None:
        # Never through a link that the server's user might have put there: a new file, renamed.
        partial = self._cluster / f"{name}.pawl"
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if self._user is not None:
                os.fchown(file.fileno(), self._user.uid, self._user.gid)
        partial.rename(self._cluster / name)

    def _make_private(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._give(directory)

    def _give(self, directory: Path) -> None:
        if self._user is not None:
            os.chown(directory, self._user.uid, self._user.gid, follow_symlinks=False)
