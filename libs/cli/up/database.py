"""The database of `pawl up`: the server that comes along, or the one of PAWL_DATABASE_URL."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from libs.cli.up.data_dir import DataDir
from libs.cli.up.service_keys import keys_are_whole
from libs.cli.up.services import MODULES
from libs.cli.up.supervisor import StartFailedError
from libs.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from libs.db.migrate import is_current
from libs.process.env import ConfigError

MAX_CONNECTIONS = 150
DATABASE_URL = "PAWL_DATABASE_URL"
_SETUP_MODULE = "libs.cli.up.setup"


class PostgresProcess:
    """The embedded server, as something to keep running."""

    name = "postgres"

    def __init__(self, data_dir: DataDir, *, user: str | None) -> None:
        self.log_path = data_dir.logs / "postgres.log"
        self._postgres = EmbeddedPostgres(
            data_dir.postgres, log_path=self.log_path, user=user, max_connections=MAX_CONNECTIONS
        )

    @property
    def owner_dsn(self) -> str:
        """The owner's address of the database; valid after `prepare`."""
        return self._postgres.owner_dsn

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._postgres.pid

    def prepare(self) -> None:
        """Make the cluster when there is none; StartFailedError when that fails."""
        try:
            self._postgres.prepare()
        except EmbeddedPostgresError as error:
            raise StartFailedError(str(error)) from error

    async def start(self) -> None:
        """Start the server, and wait for its recovery if it had crashed."""
        try:
            await self._postgres.start()
        except (EmbeddedPostgresError, OSError) as error:
            # OSError: of a full disk, say; and the time that was up is one too.
            raise StartFailedError(str(error)) from error

    async def wait(self) -> int:
        """Return its exit code when it has ended."""
        return await self._postgres.wait()

    async def stop(self) -> None:
        """A fast shutdown."""
        await self._postgres.stop()

    def kill(self) -> None:
        """Nothing: a fast shutdown is fast enough, and the next start needs no recovery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What has to be there before the services start."""

    data_dir: DataDir
    owner_dsn: str = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)

    async def run(self) -> bool:
        """Migrate and make the keys if need be; return whether there was something to do.

        In a process of its own, so that this one never loads what only the first start needs.
        ConfigError says what went wrong.
        """
        keys_exist = keys_are_whole(self.data_dir.secrets, services=MODULES)
        try:
            current = is_current(self.owner_dsn, secrets_dir=self.data_dir.secrets)
        except psycopg.OperationalError as error:
            raise ConfigError(f"the database cannot be reached: {str(error).strip()}") from error
        if keys_exist and current:
            return False
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _SETUP_MODULE, str(self.data_dir.secrets)),
            env={**self.environ, DATABASE_URL: self.owner_dsn},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, stderr = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            said = stderr.decode("utf-8", "replace").strip()
            path = _keep_report(self.data_dir, said)
            last = said.splitlines()[-1] if said else "it said nothing"
            raise ConfigError(f"the database could not be prepared: {last} (all of it: {path})")
        return True


def _keep_report(data_dir: DataDir, text: str) -> Path:
    path = data_dir.logs / "setup.log"
    path.write_text(text + "\n", encoding="utf-8")
    return path
