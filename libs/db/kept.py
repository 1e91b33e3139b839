"""One connection that is kept between statements that come one after the other.

Taking a connection from a pool and giving it back costs more than many a statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import DictRow

from libs.db.engine import Connection, Pool, has_heard
from libs.db.fetch import fetch
from libs.db.queries import Query


class KeptConnection:
    """Runs statements in the order in which they are asked for, on one connection of a pool.

    The connection is taken when it is first needed, and given back when a statement fails: the next
    one begins with another. What raises there raises here.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    async def rows(self, query: Query, parameters: Mapping[str, Any]) -> list[DictRow]:
        """All rows of one statement."""
        async with self._turn:
            connection = await self._taken()
            try:
                return await fetch(connection, query, parameters)
            except BaseException:
                await self.give_back()
                raise

    async def give_back(self) -> None:
        """Hand the connection back to the pool, which drops a broken one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.putconn(connection)

    async def _taken(self) -> Connection:
        if self._connection is not None and _is_doubtful(self._connection):
            await self.give_back()
        if self._connection is None:
            self._connection = await self._pool.getconn()
        return self._connection


def _is_doubtful(connection: Connection) -> bool:
    """Whether it is closed, or the server has said something: mostly its farewell."""
    try:
        return has_heard(connection)
    except psycopg.OperationalError:
        return True
