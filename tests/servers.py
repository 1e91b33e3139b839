"""PostgreSQL servers for tests, and fresh databases on them."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from urllib.parse import quote

import psycopg
from psycopg import sql
from testcontainers.core.container import DockerContainer

from libs.db.embedded import EmbeddedPostgres
from libs.db.migrate import migrate
from libs.db.pg_install import CLEAN_ENV, choose_user, run_as
from libs.db.roles import service_dsn, with_database
from libs.process.child import ChildSpec, start_child
from tests.containers import POSTGRES_IMAGE, running
from tests.waiting import eventually

SYSTEM_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Where Debian puts the programs of PostgreSQL servers; empty when there is none."""

GIVEN = os.environ.get("PAWL_TEST_DATABASE_URL")
_FAST = {"synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A migrated database of one test."""

    owner_dsn: str
    secrets_dir: Path

    def dsn(self, service: str) -> str:
        """The URL for the role of `service`."""
        return service_dsn(self.owner_dsn, service, self.secrets_dir)

    @property
    def inspector_dsn(self) -> str:
        """The URL for the role that only reads."""
        return self.dsn("inspector")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server with one migrated database that is never connected to, only copied."""

    owner_dsn: str
    secrets_dir: Path
    template: str

    @asynccontextmanager
    async def fresh_database(self, *, migrated: bool = True) -> AsyncIterator[Database]:
        """A new database, dropped at the end whoever is still connected."""
        name = f"pawl_test_{secrets.token_hex(6)}"
        template = self.template if migrated else "template1"
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        await self._as_owner(create.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            owner_dsn = with_database(self.owner_dsn, name)
            yield Database(owner_dsn=owner_dsn, secrets_dir=self.secrets_dir)
        finally:
            await self._as_owner(drop.format(sql.Identifier(name)))

    async def _as_owner(self, statement: sql.Composed) -> None:
        async with await psycopg.AsyncConnection.connect(self.owner_dsn, autocommit=True) as owner:
            await owner.execute(statement)


class Servers:
    """The servers of one test session, each started when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = AsyncExitStack()
        self._started: dict[str, Server] = {}

    async def get(self, kind: str) -> Server:
        """`wheel` (or PAWL_TEST_DATABASE_URL in its place), `system`: Debian's server, or
        `container`: the public image's, over TCP with passwords.
        """
        if kind not in self._started:
            owner_dsn, secrets_dir = await self._start(kind)
            template = f"pawl_template_{secrets.token_hex(6)}"
            async with await psycopg.AsyncConnection.connect(owner_dsn, autocommit=True) as owner:
                await owner.execute(f"CREATE DATABASE {template}")
            self._stack.push_async_callback(self._drop, owner_dsn, template)
            migrate(with_database(owner_dsn, template), secrets_dir=secrets_dir)
            self._started[kind] = Server(
                owner_dsn=owner_dsn, secrets_dir=secrets_dir, template=template
            )
        return self._started[kind]

    async def close(self) -> None:
        """Stop every server that was started here."""
        await self._stack.aclose()

    async def _start(self, kind: str) -> tuple[str, Path]:
        if kind == "wheel" and GIVEN:
            return GIVEN, _lasting_secrets(GIVEN)
        place = self._directory / kind
        place.mkdir()
        secrets_dir = place / "secrets"
        if kind == "container":
            container = await asyncio.to_thread(self._stack.enter_context, _container_server())
            await eventually(lambda: _answers(container), timeout=60)
            return container, secrets_dir
        if kind == "system":
            # Older servers must be able to enter every directory above their own.
            open_place = tempfile.TemporaryDirectory(prefix="pawl-pg-")
            directory = _enterable(Path(self._stack.enter_context(open_place)))
            return await self._stack.enter_async_context(_system_server(directory)), secrets_dir
        embedded = EmbeddedPostgres(
            place, log_path=place / "log", fsync=False, max_connections=200, settings=_FAST
        )
        server = await self._stack.enter_async_context(embedded)
        return server.owner_dsn, secrets_dir

    @staticmethod
    async def _drop(owner_dsn: str, name: str) -> None:
        async with await psycopg.AsyncConnection.connect(owner_dsn, autocommit=True) as owner:
            await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _lasting_secrets(dsn: str) -> Path:
    """The passwords of roles on a server that outlives the session, and that sessions share."""
    place = Path(tempfile.gettempdir()) / f"pawl-test-secrets-{os.geteuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    return place / quote(dsn.partition("@")[2].partition("?")[0], safe="")


def _enterable(directory: Path) -> Path:
    directory.chmod(0o711)
    return directory


@contextmanager
def _container_server() -> Iterator[str]:
    password = secrets.token_urlsafe(16)
    container = DockerContainer(POSTGRES_IMAGE).with_exposed_ports(5432)
    container = container.with_env("POSTGRES_PASSWORD", password)
    with running(container, instead="PAWL_TEST_DATABASE_URL") as started:
        port = started.get_exposed_port(5432)
        yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


@asynccontextmanager
async def _system_server(place: Path) -> AsyncIterator[str]:
    server = await start_child(_prepare_system_server(place))
    dsn = f"postgresql://postgres@/postgres?host={quote(str(place / 'run'), safe='')}"
    try:
        await eventually(lambda: _answers(dsn), timeout=30)
        yield dsn
    finally:
        await asyncio.shield(server.stop(grace_seconds=30))


def _prepare_system_server(place: Path) -> ChildSpec:
    binaries = SYSTEM_BINARIES[-1]
    user = choose_user(place)
    cluster, run = place / "cluster", place / "run"
    for directory in (cluster, run):
        directory.mkdir(mode=0o700)
        if user is not None:
            os.chown(directory, user.uid, user.gid)
    initdb = (str(binaries / "initdb"), "-D", str(cluster), "-U", "postgres", "-A", "trust")
    options = ("--no-sync", "--encoding=UTF8", "--locale=C.UTF-8")
    done = run_as((*initdb, *options), user=user, cwd=cluster)
    assert done.returncode == 0, done.stdout
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(run),
        "max_connections": "200",
        "fsync": "off",
        **_FAST,
    }
    arguments = [part for item in settings.items() for part in ("-c", "=".join(item))]
    return ChildSpec(
        name="postgres",
        argv=(str(binaries / "postgres"), "-D", str(cluster), *arguments),
        env=CLEAN_ENV,
        log_path=place / "log",
        cwd=cluster,
        user=user,
        stop_signal=SIGINT,
        death_signal=SIGINT,
    )


async def _answers(dsn: str) -> bool:
    try:
        await (await psycopg.AsyncConnection.connect(dsn)).close()
    except psycopg.OperationalError:
        return False
    return True
