"""A whole Pawl that a test may hurt, and the history of what was done with it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from libs.bus.settings import KAFKA
from libs.cli.client import Server
from libs.cli.stack import Stack
from libs.cli.up import ready_file
from libs.cli.up.ready_file import ReadyFile
from libs.db.embedded import SUPERUSER
from libs.db.roles import with_user
from libs.process.child import tied
from libs.process.crash_points import CRASH_AT, CRASH_DIR, hits
from tests.brokers import new_prefix
from tests.faults.dump import read_dump, unsettled
from tests.faults.ledger_tool import LEDGER, install_ledger, read_ledger
from tests.faults.links import LINKS, Links
from tests.faults.load import ClientLog
from tests.faults.processes import Processes
from tests.faults.records import Dump, History
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
SETTLE_SECONDS = 45.0
GIVEN_BROKER = "PAWL_TEST_KAFKA_BOOTSTRAP"
_STUCK = """
SELECT t.id, t.state, t.seq, t.lease_token, t.steps_begun, t.steps_closed, t.step_count,
  t.execution_started_at, t.changed_at, e.executor_id, e.connected_at, e.lease_until, e.ended_at
FROM scheduler.tasks t LEFT JOIN scheduler.executors e USING (boot_id)
WHERE t.state NOT IN ('succeeded', 'failed', 'cancelled') LIMIT 5"""
_UP = ("-m", "libs.cli", "up")
_LINKED_UP = ("-m", "tests.faults.linked_up")


@dataclass(kw_only=True)
class FaultStack:
    """A running Pawl. `held_seconds`: how long tests have kept it from working so far.

    `is_spoiled`: something in it never ends, so that the next test needs another one.
    """

    place: Path
    process: subprocess.Popen[bytes]
    held_seconds: float = 0.0
    is_spoiled: bool = False
    earlier: Dump | None = None

    @property
    def data_dir(self) -> Path:
        """Where it keeps everything."""
        return self.place / "data"

    @property
    def console(self) -> str:
        """What `pawl up` has said so far."""
        return (self.place / "console").read_text()

    @property
    def ready(self) -> ReadyFile:
        """The ready file."""
        found = self.look()
        assert found is not None, self.console
        return found

    @property
    def stack(self) -> Stack:
        """As other tests know it."""
        return Stack(data_dir=self.data_dir, ready=self.ready, ready_seconds=0.0)

    @property
    def server(self) -> Server:
        """Where it is, with the operator's key."""
        return self.stack.server

    @property
    def processes(self) -> Processes:
        """What can be killed and held."""
        return Processes(self.data_dir, look=self.look)

    @property
    def owner_dsn(self) -> str:
        """The owner's way into the database."""
        return with_user(self.ready.postgres.dsn, user=SUPERUSER)

    @property
    def crashed(self) -> frozenset[str]:
        """The crash points that have killed a process."""
        return hits(self.place / "crashes")

    def look(self) -> ReadyFile | None:
        """The ready file, None while Pawl is not ready."""
        return ready_file.read(self.data_dir / "ready.json")

    def log_of(self, name: str) -> str:
        """The log of `executor-2`, say, over all its starts."""
        service = name.removesuffix("-1")
        return (self.data_dir / "logs" / f"{service}.log").read_text()

    async def ask(self, query: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Rows of a statement, run and committed as the owner."""
        connect = psycopg.AsyncConnection.connect
        async with await connect(self.owner_dsn, row_factory=dict_row) as connection:
            cursor = await connection.execute(query, parameters)
            return [] if cursor.description is None else await cursor.fetchall()

    async def back(self, name: str, *, after: int, timeout: float = 30) -> None:
        """Wait until a new process serves under this name."""
        await eventually(lambda: self.processes.is_back(name, after=after), timeout=timeout)

    async def look_back(self) -> None:
        """Keep a dump of now: what has ended in it may not change any more."""
        self.earlier = await read_dump(self.stack)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Count the time of the block, and three seconds, as one in which nothing could be done."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.held_seconds += time.monotonic() - began + 3.0

    async def history(
        self, log: ClientLog, *, settle_seconds: float | None = SETTLE_SECONDS, **more: Any
    ) -> History:
        """Wait until everything has ended, unless None is given; then all that is to be judged."""
        if settle_seconds is not None:
            await self._settle(settle_seconds)
        # Before the dump: a call is younger than its record.
        effects = read_ledger(self.place / "ledger")
        dump = await read_dump(self.stack)
        limits = {t.tenant_id: t.tenant_limit for t in dump.tasks if t.tenant_limit is not None}
        return History(
            operations=log.operations,
            dump=dump,
            earlier=self.earlier,
            effects=effects,
            held_seconds=self.held_seconds,
            is_settled=settle_seconds is not None,
            most_running=limits,
            **more,
        )

    async def _settle(self, seconds: float) -> None:
        waiting: dict[str, int] = {}

        async def is_settled() -> bool:
            waiting.clear()
            waiting.update(await unsettled(self.stack))
            return not waiting

        try:
            await eventually(is_settled, timeout=seconds)
        except AssertionError as error:
            self.is_spoiled = True
            stuck = "\n".join(map(str, await self.ask(_STUCK)))
            said = f"after {seconds} s still {waiting}:\n{stuck}"
            raise AssertionError(said) from error


@asynccontextmanager
async def fault_stack(
    place: Path,
    *,
    executors: int = 2,
    schedulers: int = 2,
    crash_at: str = "",
    links: Links | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[FaultStack]:
    """Start Pawl in `place` with the ledger installed, and stop it at the end, whatever came."""
    counts = ("--executors", str(executors), "--schedulers", str(schedulers))
    env = {**_bus(), **(environ or {}), **({CRASH_AT: crash_at} if crash_at else {})}
    process = _start(place, *counts, links=links, environ=env)
    stack = FaultStack(place=place, process=process)
    try:
        await eventually(lambda: stack.look() or process.poll() is not None, timeout=60)
        assert stack.look() is not None, stack.console
        yield stack
    finally:
        await _end(process)


def _start(
    place: Path, *options: str, links: Links | None, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    place.mkdir(parents=True, exist_ok=True)
    (place / "crashes").mkdir(exist_ok=True)
    install_ledger(place / "tools")
    command = (*(_UP if links is None else _LINKED_UP), "--data-dir", str(place / "data"))
    with (place / "console").open("wb") as console:
        return subprocess.Popen(
            tied(
                (sys.executable, "-P", *command, "--port", "0", *options),
                death_signal=signal.SIGTERM,
            ),
            env=_environ(place, environ, links=links),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _bus() -> dict[str, str]:
    """PAWL_BUS=kafka hurts stacks on Kafka, each with topics of its own."""
    if os.environ.get("PAWL_BUS") != KAFKA:
        return {}
    bootstrap = os.environ.get(GIVEN_BROKER)
    if not bootstrap:
        pytest.skip(f"{GIVEN_BROKER} names no broker of Kafka")
    return {
        "PAWL_BUS": KAFKA,
        "PAWL_KAFKA_BOOTSTRAP": bootstrap,
        "PAWL_KAFKA_PREFIX": new_prefix(),
    }


def _environ(place: Path, more: Mapping[str, str], *, links: Links | None) -> dict[str, str]:
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("PAWL_", "PYTHONPATH"))}
    return {
        **inherited,
        "PYTHONPATH": f"{place / 'tools'}:{ROOT}",
        "PAWL_SANDBOX": "none",
        LEDGER: str(place / "ledger"),
        CRASH_DIR: str(place / "crashes"),
        **({LINKS: links.control} if links is not None else {}),
        **more,
    }


async def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        await eventually(lambda: process.poll() is not None, timeout=40)
    except AssertionError:
        process.kill()
    await asyncio.to_thread(process.wait)
