"""Connections to PostgreSQL: pools with the settings that all services share."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from libs.core.errors import PawlError
from libs.process.env import ConfigError

T = TypeVar("T")
Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

WAIT_SECONDS = 2.0
STATEMENT_TIMEOUT_SECONDS = 2.5
# A server that stands still cannot time anything out itself. With the wait for a connection this
# stays below the five seconds that callers give a call, so that they are told why.
ANSWER_SECONDS = 2.9
IDLE_IN_TRANSACTION_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 5
RETRY_AFTER_SECONDS = 1.0

_LOOK_SECONDS = 0.1

# A silently lost server is noticed after about half a minute, not after TCP's two hours.
KEEPALIVES_IDLE_SECONDS = 15
KEEPALIVES_INTERVAL_SECONDS = 5
KEEPALIVES_COUNT = 3

# The pool gives up on a lost server after this time and starts afresh with the next request, so
# that its growing pauses never keep it away from a server that is back.
RECONNECT_SECONDS = 2.0

# A connection that a burst opened is a process of the server with its memory; it goes soon after.
IDLE_SECONDS = 30.0

_SHARED_SETTINGS = {
    "statement_timeout": f"{int(STATEMENT_TIMEOUT_SECONDS * 1000)}",
    "idle_in_transaction_session_timeout": f"{int(IDLE_IN_TRANSACTION_SECONDS * 1000)}",
    "timezone": "UTC",
}
# Hot statements reach every row by an index. Plans made while the tables were empty would say
# otherwise, and they are cached; so these connections cannot choose anything else.
_HOT_SETTINGS = {
    "enable_seqscan": "off",
    "enable_mergejoin": "off",
    "enable_hashjoin": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}


class _AnsweredConnection(AsyncConnection[DictRow]):
    """A connection that is given up when the server does not answer in time."""

    async def wait(
        self, gen: PQGen[T], interval: float = _LOOK_SECONDS, timeout: float | None = None
    ) -> T:
        """What psycopg waits for, for 2.9 s at most; OperationalError after that.

        Whether the statement was carried out nobody knows then, as when a connection breaks.
        """
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, ANSWER_SECONDS)
        except errors._WaitTimeout:  # noqa: SLF001 - it has no public name
            self.pgconn.finish()
            raise psycopg.OperationalError(
                f"the server has not answered within {ANSWER_SECONDS} s"
            ) from None


async def open_pool(
    dsn: str, *, name: str, min_size: int = 1, max_size: int = 8, hot: bool = False
) -> Pool:
    """An open pool of autocommit connections that give rows as dicts and prepare every statement.

    Whoever asks waits at most 2 s for a connection (PoolTimeout); a statement runs at most 2.5 s.
    `name` is the application name seen in pg_stat_activity. With `hot`, plans use indexes only. The
    pool opens at once and connects in the background; close it with `await pool.close()`. A
    connection that the server has closed meanwhile is not given out.
    """

    async def check(connection: Connection) -> None:
        if not has_heard(connection):
            return
        try:
            await pool.check_connection(connection)
        except psycopg.Error:
            # A server that goes away takes all of them along. Found one by one they would use up
            # the time of whoever asks: the pool pauses longer after each.
            await pool.check()
            raise

    pool: Pool = AsyncConnectionPool(
        dsn,
        kwargs=_arguments(dsn, name=name, hot=hot),
        connection_class=_AnsweredConnection,
        name=name,
        min_size=min_size,
        max_size=max_size,
        timeout=WAIT_SECONDS,
        reconnect_timeout=RECONNECT_SECONDS,
        max_idle=IDLE_SECONDS,
        check=check,
        open=False,
    )
    await pool.open()
    return pool


async def open_connection(
    dsn: str, *, name: str, hot: bool = False, idle_session_seconds: float | None = None
) -> Connection:
    """One connection as a pool would give it, for what has to stay on the same one.

    The server ends it when nothing was asked for `idle_session_seconds`. It notices within about
    half a minute that the server is gone without a word.
    """
    more = {}
    if idle_session_seconds is not None:
        more["idle_session_timeout"] = f"{int(idle_session_seconds * 1000)}"
    return await AsyncConnection[DictRow].connect(
        dsn,
        keepalives_idle=KEEPALIVES_IDLE_SECONDS,
        keepalives_interval=KEEPALIVES_INTERVAL_SECONDS,
        keepalives_count=KEEPALIVES_COUNT,
        **_arguments(dsn, name=name, hot=hot, more=more),
    )


def _arguments(
    dsn: str, *, name: str, hot: bool, more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What every connection is opened with."""
    settings = _SHARED_SETTINGS | (_HOT_SETTINGS if hot else {}) | dict(more or {})
    given = str(conninfo_to_dict(dsn).get("options") or "")
    options = [given, *(f"-c {key}={value}" for key, value in settings.items())]
    return {
        "autocommit": True,
        "prepare_threshold": 0,
        "row_factory": dict_row,
        "application_name": name,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "options": " ".join(options).strip(),
    }


def has_heard(connection: Connection) -> bool:
    """Whether the server has said something while nobody asked: mostly its farewell. No round trip.

    psycopg.OperationalError when the connection is closed on this side.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def refuse_privileged(pool: Pool, schema: str) -> None:
    """Raise ConfigError when this role is a superuser, or `schema` is missing or its own."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            """
            SELECT current_user AS name, r.rolsuper AS is_superuser,
                   pg_has_role(n.nspowner, 'MEMBER') AS is_owner
            FROM pg_roles r LEFT JOIN pg_namespace n ON n.nspname = %(schema)s
            WHERE r.rolname = current_user
            """,
            {"schema": schema},
        )
        row = await cursor.fetchone()
    if row is None:
        raise ConfigError("the database role of this connection no longer exists")
    if row["is_superuser"]:
        raise ConfigError(
            f"the database role {row['name']} is a superuser; a service needs its own"
        )
    if row["is_owner"] is None:
        raise ConfigError(f"the database has no schema {schema}: run `pawl migrate` first")
    if row["is_owner"]:
        raise ConfigError(
            f"the database role {row['name']} owns the schema {schema}; a service needs a "
            "role that owns nothing"
        )


def unavailable(error: Exception) -> PawlError:
    """What a caller is told when the database cannot be reached or takes too long."""
    refusal = PawlError(
        "unavailable",
        "the database cannot be reached at the moment",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
    refusal.__cause__ = error
    return refusal


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """A connection inside a transaction: the end of the block commits, an error rolls back."""
    async with pool.connection() as connection, connection.transaction():
        yield connection
