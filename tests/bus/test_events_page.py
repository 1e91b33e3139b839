"""The consumers of docs/events.md run as they stand there, against a broker."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from libs.bus.envelope import encode
from libs.bus.topics import TASK_EVENTS
from libs.core.ids import new_id
from tests.asyncapi import check
from tests.brokers import broker, new_prefix, topics_removed, until_it_answers
from tests.task_events import WAY, make_way
from tests.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
TENANT = UUID("01936b2e-0000-7000-8000-00000000000a")
PARTITIONS = 3
SECONDS = 30


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    with broker() as address:
        yield address


@pytest_asyncio.fixture
async def prefix(bootstrap: str) -> AsyncIterator[str]:
    """What a test's topic begins with; the topic is there, and has more than one partition."""
    await until_it_answers(bootstrap)
    prefix = new_prefix()
    async with topics_removed(bootstrap, prefix):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(prefix + TASK_EVENTS, PARTITIONS, 1)])
        finally:
            await admin.close()
        yield prefix


def block(language: str, *, prefix: str, group: str) -> str:
    """The one code block of the page in `language`, with this test's names in place of its own."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    (found,) = fence.findall(PAGE.read_text(encoding="utf-8"))
    text = str(found)
    assert (text.count(TASK_EVENTS), text.count(group)) == (1, 1)
    return text.replace(TASK_EVENTS, prefix + TASK_EVENTS).replace(group, prefix + group)


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Programs heed Ctrl-C. One that is started from a shell's background ignores it otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def produce(
    bootstrap: str, prefix: str, tasks: list[UUID], *, to_partitions: bool = False
) -> None:
    """The first events of each task, turn by turn, as Pawl would publish them.

    `to_partitions` puts the first task on the first partition, and so on.
    """
    ways = [make_way(task, tenant_id=TENANT, at=datetime.now(UTC)) for task in tasks]
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for events in zip(*ways, strict=True):
            for partition, (task, event) in enumerate(zip(tasks, events, strict=True)):
                headers, value = encode(event)
                check(headers, str(task), value.encode(), TASK_EVENTS)
                await producer.send_and_wait(
                    prefix + TASK_EVENTS,
                    key=str(task).encode(),
                    value=value.encode(),
                    headers=[(name, text.encode()) for name, text in headers.items()],
                    partition=partition if to_partitions else None,
                )


async def until_committed(bootstrap: str, group: str, events: int) -> None:
    """Wait until the group has committed that many events."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()

    async def is_committed() -> bool:
        offsets = await admin.list_consumer_group_offsets(group)
        committed = [int(one.offset) for one in offsets.values() if one.offset > 0]
        return sum(committed) == events

    try:
        await eventually(is_committed, timeout=SECONDS)
    finally:
        await admin.close()


@asynccontextmanager
async def running(bootstrap: str, *command: str) -> AsyncIterator[Process]:
    """A program of the page; interrupted at the end, as by Ctrl-C."""
    env = os.environ | {"PAWL_KAFKA_BOOTSTRAP": bootstrap}
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), SECONDS)


async def lines(process: Process, count: int) -> list[str]:
    """The next lines that it prints."""
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        return [(await process.stdout.readline()).decode().rstrip("\n") for _ in range(count)]


def expected(task: UUID) -> list[str]:
    """What the consumer prints of a task."""
    kind = "pawl.task.status_transition.v1"
    return [f"{kind} {task} {seq} {state}" for seq, state in enumerate(WAY, start=1)]


def of_task(task: UUID, printed: list[str]) -> list[str]:
    return [line for line in printed if str(task) in line]


def test_the_consumer_has_fifteen_lines() -> None:
    assert len(block("python", prefix="", group="my-app").splitlines()) == 15


async def test_the_consumer_prints_every_event_and_none_again_when_it_is_started_again(
    bootstrap: str, prefix: str
) -> None:
    program = (sys.executable, "-c", block("python", prefix=prefix, group="my-app"))
    tasks = [new_id() for _ in range(5)]
    later = [new_id() for _ in range(PARTITIONS)]
    await produce(bootstrap, prefix, tasks)

    async with running(bootstrap, *program) as process:
        first = await lines(process, len(tasks) * len(WAY))
        await until_committed(bootstrap, prefix + "my-app", len(first))
    # A partition is read in order: before what comes later in it, what comes again would come.
    await produce(bootstrap, prefix, later, to_partitions=True)
    async with running(bootstrap, *program) as process:
        second = await lines(process, len(later) * len(WAY))

    assert [of_task(task, first) for task in tasks] == [expected(task) for task in tasks]
    assert [of_task(task, second) for task in later] == [expected(task) for task in later]


async def test_the_command_prints_headers_key_and_data(bootstrap: str, prefix: str) -> None:
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed (Debian: apt install kcat)")
    command = block("sh", prefix=prefix, group="my-shell")
    task = new_id()
    await produce(bootstrap, prefix, [task])

    async with running(bootstrap, "sh", "-c", f"exec {command}") as process:
        printed = await lines(process, 2 * len(WAY))

    for seq, (headers, data) in enumerate(pairs_of(printed), start=1):
        assert f"ce_id={task}:{seq}," in headers
        key, value = data.split(" ", 1)
        said = dict(pair.split("=", 1) for pair in headers.split(","))
        check(said, key, value.encode(), TASK_EVENTS)


def pairs_of(printed: list[str]) -> list[tuple[str, str]]:
    return list(zip(printed[::2], printed[1::2], strict=True))
