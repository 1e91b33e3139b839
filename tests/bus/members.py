"""Members of a group as processes of their own, so that one can be killed for real."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from libs.bus.consumer import Consumer
from libs.bus.envelope import BusEvent
from libs.bus.kafka import KafkaBus, KafkaSubscription
from libs.bus.kafka_client import KafkaClient
from libs.bus.settings import KAFKA, BusSettings
from libs.bus.topics import TASK_EVENTS
from libs.db.engine import Connection, open_pool
from libs.db.outage import pause
from tests.bus.world import READER, KafkaWorld, note

ROOT = Path(__file__).resolve().parents[2]
LOOK_SECONDS = 0.05


@dataclass(kw_only=True)
class Member:
    """A running member; it writes a line per event and per assignment to `path`."""

    path: Path
    process: asyncio.subprocess.Process

    @property
    def handled(self) -> int:
        """How many events it has handled."""
        return self._lines().count("handled")

    @property
    def assigned(self) -> int:
        """How many partitions it has, by its newest word."""
        said = [line for line in self._lines() if line.startswith("assigned ")]
        return int(said[-1].split()[1]) if said else 0

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.process.pid, signal.SIGKILL)

    def _lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


@asynccontextmanager
async def member(world: KafkaWorld, path: Path) -> AsyncIterator[Member]:
    """A process that consumes as the group `test` during the block."""
    told = {
        "bootstrap": world.settings.kafka_bootstrap,
        "prefix": world.settings.kafka_prefix,
        "dsn": world.database.dsn("auth"),
        "path": str(path),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bus.members", json.dumps(told)), cwd=ROOT
    )
    try:
        yield Member(path=path, process=process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _consume(told: dict[str, str]) -> None:
    settings = BusSettings(
        driver=KAFKA, kafka_bootstrap=told["bootstrap"], kafka_prefix=told["prefix"]
    )
    bus = _WatchedBus(KafkaClient(settings, name="test-member"))
    pool = await open_pool(told["dsn"], name="test-member", hot=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with Path(told["path"]).open("a") as lines:  # noqa: ASYNC230 - a few lines of a test

        def say(line: str) -> None:
            lines.write(line + "\n")
            lines.flush()

        async def handle(tx: Connection, event: BusEvent) -> None:
            await note(tx, event)
            say("handled")

        consumer = Consumer(
            bus,
            pool=pool,
            schema=READER,
            topic=TASK_EVENTS,
            group="test",
            handler=handle,
            rest_seconds=0.001,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(consumer.run(stop))
            group.create_task(_say_assigned(bus, say, stop))
    await pool.close()
    await bus.close()


class _WatchedBus(KafkaBus):
    """Remembers its one subscription."""

    subscription: KafkaSubscription | None = None

    async def subscribe(self, *, topic: str, group: str, schema: str) -> KafkaSubscription:
        self.subscription = await super().subscribe(topic=topic, group=group, schema=schema)
        return self.subscription


async def _say_assigned(bus: _WatchedBus, say: Callable[[str], None], stop: asyncio.Event) -> None:
    before = -1
    while not stop.is_set():
        now = 0 if bus.subscription is None else len(bus.subscription.partitions)
        if now != before:
            say(f"assigned {now}")
        before = now
        await pause(stop, LOOK_SECONDS)


if __name__ == "__main__":
    asyncio.run(_consume(json.loads(sys.argv[1])))
