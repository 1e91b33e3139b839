"""Who of many processes is the one that publishes an outbox: whose connection holds a lock."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psycopg

from libs.bus.topics import TASK_EVENTS
from libs.db.engine import Connection, open_connection
from libs.process.logs import get_logger

LOCK_CLASS = 0x62757301
TRY_SECONDS = 1.0

# A leader that stands still (a stopped process, a machine that sleeps) loses its session, and with
# it the lead, so that another one goes on. A running one asks something every few seconds.
IDLE_SECONDS = 15.0

log = get_logger(__name__)


class Leadership:
    """A connection of its own, and whether it holds the lock of the topic.

    The lock ends with the connection, so a leader that has lost it cannot write through it either.
    """

    def __init__(self, database_url: str, *, name: str, sql: Mapping[str, str]) -> None:
        self._database_url = database_url
        self._name = name
        self._sql = sql
        self._connection: Connection | None = None
        self._leads = False
        self._try_at = 0.0

    async def connection(self) -> Connection:
        """The connection, made anew when it is gone; psycopg.OperationalError: it cannot be."""
        if self._connection is None or self._connection.closed:
            self._leads = False
            self._connection = await open_connection(
                self._database_url, name=self._name, hot=True, idle_session_seconds=IDLE_SECONDS
            )
            self._try_at = 0.0
        return self._connection

    async def leads(self) -> bool:
        """Whether this process is the one; it tries to be at most once a second."""
        connection = await self.connection()
        if not self._leads and time.monotonic() >= self._try_at:
            self._try_at = time.monotonic() + TRY_SECONDS
            names = {"lock_class": LOCK_CLASS, "topic": TASK_EVENTS}
            cursor = await connection.execute(self._sql["try_lead"], names)
            row = await cursor.fetchone()
            self._leads = row is not None and bool(row["leads"])
            if self._leads:
                log.info("publishes from now on")
        return self._leads

    async def close(self) -> None:
        """Give the lead up."""
        connection, self._connection, self._leads = self._connection, None, False
        if connection is not None:
            try:
                await connection.close()
            except psycopg.Error as error:
                log.warning("connection not closed well", error=str(error).strip())
