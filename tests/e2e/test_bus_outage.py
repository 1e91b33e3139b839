"""A whole Pawl whose Kafka goes away and comes back: no work waits, no event is missing."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio

from libs.bus.settings import KAFKA
from libs.cli.client import Client
from libs.cli.stack import Stack, running_stack
from libs.core.ids import new_id
from tests.brokers import OwnBroker, own_broker, until_it_answers
from tests.e2e.tasks import CHAIN, EXECUTE, finished
from tests.published import check_published, read_published
from tests.stacks import StackEnvirons
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def own() -> Iterator[OwnBroker]:
    with own_broker() as own:
        yield own


@pytest_asyncio.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, environs: StackEnvirons, own: OwnBroker
) -> AsyncIterator[Stack]:
    await until_it_answers(own.bootstrap)
    environ = environs.fresh(PAWL_BUS=KAFKA, PAWL_KAFKA_BOOTSTRAP=own.bootstrap)
    environ["PAWL_KAFKA_PREFIX"] = f"{new_id().hex}."
    data_dir = tmp_path_factory.mktemp("stack") / "data"
    with running_stack(data_dir, "--schedulers", "2", environ=environ) as running:
        yield running


def status_of(stack: Stack) -> str:
    """What /readyz says."""
    return str(Client(stack.server).get("/readyz")["status"])


def gauges(stack: Stack, name: str) -> list[float]:
    """A gauge of every scheduler."""
    values = []
    for scheduler in stack.ready.services["scheduler"]:
        with urllib.request.urlopen(f"http://{scheduler.metrics_address}/metrics") as answer:
            text = answer.read().decode()
        values += [float(x.split()[1]) for x in text.splitlines() if x.startswith(f"{name} ")]
    return values


@pytest.mark.parametrize("way", ["stands still", "is killed"])
async def test_work_goes_on_without_the_broker_and_no_event_is_missing(
    stack: Stack, own: OwnBroker, way: str
) -> None:
    client = Client(stack.server)
    finished(client, CHAIN)
    await check_published(stack)
    assert status_of(stack) == "ready"

    (own.pause if way == "stands still" else own.kill)()
    try:
        during = [finished(client, CHAIN) for _ in range(10)]
        await eventually(lambda: status_of(stack) == "degraded", timeout=20)
        await eventually(lambda: max(gauges(stack, "pawl_outbox_age_seconds")) > 5, timeout=30)
        assert max(gauges(stack, "pawl_outbox_rows")) > 0
        queued = client.post(EXECUTE, CHAIN)
    finally:
        (own.unpause if way == "stands still" else own.start)()

    await eventually(lambda: status_of(stack) == "ready", timeout=60)
    await eventually(lambda: _outbox_is_empty(stack), timeout=60)
    assert {task["status"] for task in during} == {"succeeded"}
    await check_published(stack)
    await _comes_in_order(stack)
    await eventually(lambda: _is_metered(stack), timeout=60)
    assert queued["task_id"] in {one.key for one in await read_published(stack)}
    await eventually(lambda: set(gauges(stack, "pawl_outbox_age_seconds")) == {0.0})


async def test_another_scheduler_publishes_when_the_one_that_does_is_killed(
    stack: Stack,
) -> None:
    client = Client(stack.server)
    for scheduler in stack.ready.services["scheduler"]:
        for _ in range(3):
            finished(client, CHAIN)
        os.kill(scheduler.pid, signal.SIGKILL)
        await eventually(lambda: _runs(client), timeout=30)
        await eventually(lambda: _outbox_is_empty(stack), timeout=30)

    await check_published(stack)
    await _comes_in_order(stack)


def _runs(client: Client) -> bool:
    try:
        return bool(finished(client, CHAIN)["status"] == "succeeded")
    except Exception:  # noqa: BLE001 - whatever it is, it is looked at again until the time is up
        return False


async def _outbox_is_empty(stack: Stack) -> bool:
    async with await psycopg.AsyncConnection.connect(stack.ready.postgres.dsn) as connection:
        cursor = await connection.execute("SELECT count(*) FROM scheduler.outbox")
        return await cursor.fetchone() == (0,)


async def _is_metered(stack: Stack) -> bool:
    """Whether auth has counted every task, once."""
    query = (
        "SELECT (SELECT sum(tasks) FROM auth.usage_days) = count(*) FROM scheduler.tasks"
        " WHERE mode = 'live'"
    )
    async with await psycopg.AsyncConnection.connect(stack.ready.postgres.dsn) as connection:
        return await (await connection.execute(query)).fetchone() == (True,)


async def _comes_in_order(stack: Stack) -> None:
    """Of every task the numbers come for the first time as 1, 2, 3 …"""
    first: dict[str, list[int]] = {}
    for one in await read_published(stack):
        seqs = first.setdefault(one.key, [])
        seq = int(one.headers["ce_sequence"])
        if seq not in seqs:
            seqs.append(seq)
    assert first
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in first.values())
