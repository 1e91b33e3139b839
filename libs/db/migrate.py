"""Bring a database up to date: roles, one schema per owner, one Alembic history per schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from libs.db.roles import INSPECTOR, SERVICES, ensure_roles, roles_are_known, service_dsn
from libs.process.env import ConfigError

__all__ = ["SCHEMAS", "MigrationReport", "find_histories", "is_current", "migrate", "service_dsn"]

SCHEMAS = ("bus", *SERVICES)
"""Every schema, in the order in which they are migrated."""

OLDEST_SERVER = 15
LOCK_TIMEOUT_SECONDS = 10

# One number for all Pawls: whoever migrates a database waits for whoever does so already.
_ADVISORY_LOCK = 0x7061776C
_ROOT = Path(__file__).resolve().parents[2]
_FILE = re.compile(r"(?P<revision>[0-9]{4})_[a-z0-9_]+\.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The migrations of one schema. `head` is the newest revision, None when there is none yet."""

    schema: str
    directory: Path
    head: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationReport:
    """What was done. `applied` maps a schema to (revision before, revision now)."""

    roles: tuple[str, ...]
    applied: dict[str, tuple[str | None, str]]

    @property
    def changed(self) -> bool:
        """Whether anything had to be done."""
        return bool(self.roles or self.applied)


def find_histories(root: Path = _ROOT) -> tuple[History, ...]:
    """The histories in the order in which they are applied; ValueError for a misnamed file."""
    places = {"bus": root / "libs" / "bus"} | {name: root / "services" / name for name in SERVICES}
    return tuple(
        History(schema=schema, directory=place / "migrations", head=_head(place / "migrations"))
        for schema, place in places.items()
    )


def is_current(owner_dsn: str, *, secrets_dir: Path, root: Path = _ROOT) -> bool:
    """Whether `migrate` would have nothing to do. Cheap: reads file names and five rows."""
    with _connect(owner_dsn) as connection:
        return _is_current(connection, find_histories(root), secrets_dir=secrets_dir)


def migrate(owner_dsn: str, *, secrets_dir: Path, root: Path = _ROOT) -> MigrationReport:
    """Apply what is missing and say what that was; several at once wait for each other.

    `owner_dsn` may create roles and schemas. The passwords of the roles are kept in `secrets_dir`,
    one file `db_<service>_password` (0600) each. Every migration is a transaction of its own.
    Raises ConfigError when the server is too old or the database is newer than this release.
    """
    histories = find_histories(root)
    with _connect(owner_dsn) as connection:
        if _is_current(connection, histories, secrets_dir=secrets_dir):
            return MigrationReport(roles=(), applied={})
        with _locked(connection):
            roles = ensure_roles(connection, secrets_dir=secrets_dir)
            _grant_inspector(connection)
            applied = {}
            for history in histories:
                before = _version(connection, history.schema)
                if history.head is None or before == history.head:
                    continue
                _create_schema(connection, history.schema)
                _upgrade(owner_dsn, history, before)
                applied[history.schema] = (before, history.head)
    return MigrationReport(roles=roles, applied=applied)


def _connect(owner_dsn: str) -> psycopg.Connection:
    connection = psycopg.connect(
        owner_dsn, autocommit=True, connect_timeout=10, application_name="pawl-migrate"
    )
    major = connection.info.server_version // 10000
    if major < OLDEST_SERVER:
        connection.close()
        raise ConfigError(f"the server is PostgreSQL {major}; {OLDEST_SERVER} or newer is needed")
    return connection


def _is_current(
    connection: psycopg.Connection, histories: tuple[History, ...], *, secrets_dir: Path
) -> bool:
    return roles_are_known(connection, secrets_dir=secrets_dir) and all(
        history.head is None or _version(connection, history.schema) == history.head
        for history in histories
    )


@contextmanager
def _locked(connection: psycopg.Connection) -> Iterator[None]:
    connection.execute("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK,))
    try:
        yield
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", (_ADVISORY_LOCK,))


def _head(directory: Path) -> str | None:
    if not directory.is_dir():
        return None
    names = sorted(path.name for path in directory.glob("*.py") if path.name != "__init__.py")
    for name in names:
        if not _FILE.fullmatch(name):
            raise ValueError(f"{directory / name}: a migration is called like 0001_create_tasks.py")
    return names[-1][:4] if names else None


def _version(connection: psycopg.Connection, schema: str) -> str | None:
    table = sql.Identifier(schema, "alembic_version")
    name = f"{schema}.alembic_version"
    found = connection.execute("SELECT to_regclass(%s)", (name,)).fetchone()
    if found is None or found[0] is None:
        return None
    row = connection.execute(sql.SQL("SELECT version_num FROM {}").format(table)).fetchone()
    return None if row is None else str(row[0])


def _create_schema(connection: psycopg.Connection, schema: str) -> None:
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    inspector = sql.Identifier(f"pawl_{INSPECTOR}")
    connection.execute(
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), inspector)
    )
    # For the tables to come, whoever writes their migration.
    for kind in ("TABLES", "SEQUENCES"):
        connection.execute(
            sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA {} GRANT SELECT ON {} TO {}").format(
                sql.Identifier(schema), sql.SQL(kind), inspector
            )
        )


def _grant_inspector(connection: psycopg.Connection) -> None:
    """A role that only reads also when somebody grants it more: its transactions are read-only."""
    connection.execute(
        sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(
            sql.Identifier(f"pawl_{INSPECTOR}")
        )
    )


def _upgrade(owner_dsn: str, history: History, before: str | None) -> None:
    # Alembic takes a third of a second to import and is rarely needed.
    from libs.db.alembic_history import UnknownRevisionError, upgrade

    try:
        upgrade(
            owner_dsn,
            schema=history.schema,
            directory=history.directory,
            lock_timeout_seconds=LOCK_TIMEOUT_SECONDS,
        )
    except UnknownRevisionError as error:
        raise ConfigError(
            f"the schema {history.schema} is at revision {before}, which this release of Pawl does "
            f"not know (its newest is {history.head}): use the newer release"
        ) from error
