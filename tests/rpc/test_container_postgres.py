"""A scheduler on the public PostgreSQL image: over TCP, roles with passwords, as in production."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.rpc.tokens import KeyRing
from tests.scheduler_world import scheduler_world
from tests.servers import Servers

pytestmark = pytest.mark.db


async def test_tasks_run_on_a_server_reached_by_password(
    servers: Servers, keys: KeyRing, tmp_path: Path
) -> None:
    server = await servers.get("container")
    async with server.fresh_database() as database:
        async with scheduler_world(database, keys, tmp_path) as world, world.executor():
            task = (await world.submit({"steps": 3}, wait_seconds=10)).task

        wrong = database.dsn("scheduler").replace("pawl_scheduler:", "pawl_scheduler:x", 1)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await psycopg.AsyncConnection.connect(wrong)

    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
