"""Every named query is valid SQL for its service's role, and keeps tenants apart."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from libs.db.queries import Query, load_queries
from tests.servers import Database

pytestmark = pytest.mark.db

_ROOT = Path(__file__).resolve().parents[2]
# The blocks of libs/bus are completed with the schema of each user; its own tests run them.
_FILES = sorted(_ROOT.glob("services/*/**/*.sql")) + sorted(_ROOT.glob("gateway/**/*.sql"))
_PARAMETER = re.compile(r"%\((?P<name>[a-z0-9_]+)\)s")


def _blocks(path: Path) -> list[Query]:
    queries = load_queries(path)
    return [queries.block(name) for name in queries]


def _numbered(query: Query) -> str:
    """The text with $1, $2, … as PREPARE wants it."""
    if not query.parameters:
        return query.text
    numbers = {name: index for index, name in enumerate(query.parameters, start=1)}
    return _PARAMETER.sub(lambda found: f"${numbers[found['name']]}", query.text).replace("%%", "%")


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
async def test_every_query_prepares_as_the_role_of_its_service(
    database: Database, path: Path
) -> None:
    dsn = database.dsn(path.relative_to(_ROOT).parts[1])
    refused = {}

    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for block in _blocks(path):
            try:
                await connection.execute(f"PREPARE {block.name} AS {_numbered(block)}".encode())
            except psycopg.Error as error:
                refused[block.name] = str(error)

    assert refused == {}


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_every_query_binds_the_tenant_or_says_that_it_sees_all(path: Path) -> None:
    careless = [
        block.name
        for block in _blocks(path)
        if not block.is_system and not any(name.startswith("tenant") for name in block.parameters)
    ]

    assert careless == []
