"""Migrations: what holds for every schema."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from libs.db.migrate import MigrationReport, find_histories, is_current, migrate
from libs.db.roles import SERVICES
from libs.process.env import ConfigError
from tests.servers import Database, Server

pytestmark = pytest.mark.db


def test_migrate_finds_nothing_to_do_a_second_time(database: Database) -> None:
    started = time.perf_counter()
    report = migrate(database.owner_dsn, secrets_dir=database.secrets_dir)

    assert not report.changed
    assert is_current(database.owner_dsn, secrets_dir=database.secrets_dir)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("service", SERVICES)
def test_role_of_a_service_can_connect_and_owns_nothing(database: Database, service: str) -> None:
    with psycopg.connect(database.dsn(service)) as connection:
        owned = connection.execute(
            """
            SELECT c.oid::regclass::text FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
            WHERE r.rolname = current_user
            UNION ALL
            SELECT nspname FROM pg_namespace WHERE pg_has_role(nspowner, 'MEMBER')
              AND nspname <> 'public'
            """
        ).fetchall()

    assert owned == []


def test_inspector_reads_every_schema_and_writes_none(database: Database) -> None:
    with psycopg.connect(database.inspector_dsn, autocommit=True) as connection:
        tables = connection.execute(
            """
            SELECT table_schema, table_name FROM information_schema.tables
            WHERE table_schema = ANY(%s)
            """,
            ([history.schema for history in find_histories()],),
        ).fetchall()
        found = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)",
            ([history.schema for history in find_histories() if history.head],),
        ).fetchall()
        for schema, table in tables:
            connection.execute(f'SELECT * FROM "{schema}"."{table}" LIMIT 0')
            with pytest.raises(psycopg.Error):
                connection.execute(f'DELETE FROM "{schema}"."{table}"')

    assert {schema for schema, _ in tables} == {schema for (schema,) in found}


_VERSION = """
from alembic import op

revision = "{revision}"
down_revision = {before}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("{statement}")


def downgrade() -> None:
    raise NotImplementedError
"""


def write_version(root: Path, revision: str, statement: str, *, before: str | None) -> None:
    directory = root / "services" / "planner" / "migrations"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{revision}_change.py").write_text(
        _VERSION.format(revision=revision, before=repr(before), statement=statement)
    )


@pytest.fixture
async def empty(server: Server) -> AsyncIterator[Database]:
    """A database without a migration."""
    async with server.fresh_database(migrated=False) as database:
        yield database


def columns(database: Database) -> list[str]:
    with psycopg.connect(database.owner_dsn) as connection:
        rows = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'probe' "
            "ORDER BY ordinal_position"
        ).fetchall()
    return [name for (name,) in rows]


def test_missing_versions_are_applied_in_order(empty: Database, tmp_path: Path) -> None:
    write_version(tmp_path, "0001", "CREATE TABLE planner.probe (a int)", before=None)
    first = migrate(empty.owner_dsn, secrets_dir=empty.secrets_dir, root=tmp_path)
    write_version(tmp_path, "0002", "ALTER TABLE planner.probe ADD b int", before="0001")
    write_version(tmp_path, "0003", "ALTER TABLE planner.probe ADD c int", before="0002")
    assert not is_current(empty.owner_dsn, secrets_dir=empty.secrets_dir, root=tmp_path)

    second = migrate(empty.owner_dsn, secrets_dir=empty.secrets_dir, root=tmp_path)

    assert first.applied == {"planner": (None, "0001")}
    assert second.applied == {"planner": ("0001", "0003")}
    assert columns(empty) == ["a", "b", "c"]
    assert is_current(empty.owner_dsn, secrets_dir=empty.secrets_dir, root=tmp_path)


def test_failed_version_leaves_what_was_before_it(empty: Database, tmp_path: Path) -> None:
    write_version(tmp_path, "0001", "CREATE TABLE planner.probe (a int)", before=None)
    write_version(tmp_path, "0002", "ALTER TABLE planner.nothing ADD b int", before="0001")

    with pytest.raises(Exception, match="nothing"):
        migrate(empty.owner_dsn, secrets_dir=empty.secrets_dir, root=tmp_path)

    write_version(tmp_path, "0002", "ALTER TABLE planner.probe ADD b int", before="0001")
    report = migrate(empty.owner_dsn, secrets_dir=empty.secrets_dir, root=tmp_path)
    assert report.applied == {"planner": ("0001", "0002")}


def test_newer_database_is_refused(empty: Database, tmp_path: Path) -> None:
    write_version(tmp_path / "new", "0001", "CREATE TABLE planner.probe (a int)", before=None)
    write_version(tmp_path / "new", "0002", "ALTER TABLE planner.probe ADD b int", before="0001")
    migrate(empty.owner_dsn, secrets_dir=empty.secrets_dir, root=tmp_path / "new")
    write_version(tmp_path / "old", "0001", "CREATE TABLE planner.probe (a int)", before=None)

    with pytest.raises(ConfigError, match=r"at revision 0002.*its newest is 0001"):
        migrate(empty.owner_dsn, secrets_dir=empty.secrets_dir, root=tmp_path / "old")


async def test_several_at_once_apply_each_version_once(empty: Database, tmp_path: Path) -> None:
    write_version(tmp_path, "0001", "CREATE TABLE planner.probe (a int)", before=None)

    def one() -> MigrationReport:
        return migrate(empty.owner_dsn, secrets_dir=empty.secrets_dir, root=tmp_path)

    reports = await asyncio.gather(*(asyncio.to_thread(one) for _ in range(3)))

    assert sorted(len(report.applied) for report in reports) == [0, 0, 1]


def test_misnamed_file_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "services" / "auth" / "migrations"
    directory.mkdir(parents=True)
    (directory / "first.py").write_text("")

    with pytest.raises(ValueError, match=r"0001_create_tasks\.py"):
        find_histories(tmp_path)
