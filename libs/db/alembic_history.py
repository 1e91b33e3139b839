"""Alembic without its command line: run the missing versions of one directory in one schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool


class UnknownRevisionError(Exception):
    """The database is at a revision that the directory does not have."""


def upgrade(owner_dsn: str, *, schema: str, directory: Path, lock_timeout_seconds: float) -> None:
    """Apply every version newer than the database's, each in its own transaction.

    A lock that is not free within `lock_timeout_seconds` fails the migration instead of stopping
    every reader behind it.
    """
    script = ScriptDirectory(str(directory), version_locations=[str(directory)])

    def missing(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001 - as Alembic documents it

    # The creator keeps libpq's own reading of the address; SQLAlchemy never sees it.
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(owner_dsn), poolclass=NullPool
    )
    with (
        engine.connect() as connection,
        EnvironmentContext(Config(), script, fn=missing) as environment,
    ):
        connection.execute(text(f"SET lock_timeout = {int(lock_timeout_seconds * 1000)}"))
        connection.commit()
        environment.configure(
            connection=connection,
            version_table_schema=schema,
            transaction_per_migration=True,
        )
        try:
            with environment.begin_transaction():
                environment.run_migrations()
        except CommandError as error:
            if "Can't locate revision" in str(error):
                raise UnknownRevisionError(str(error)) from error
            raise
    engine.dispose()
