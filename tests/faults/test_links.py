"""Connections between services that are cut, slow, silent or one-way while both sides live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import pytest_asyncio

from libs.cli.client import Client, Server
from tests.faults.judge import check_run
from tests.faults.linked import DATABASE
from tests.faults.links import (
    ONE_WAY_BACK,
    ONE_WAY_THERE,
    REFUSING,
    SILENT,
    Links,
    Pair,
    Weather,
)
from tests.faults.load import ClientLog, FaultClient, Load, Pace, Work, more_done
from tests.faults.stack import FaultStack, fault_stack
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

SLOW = Weather(delay_seconds=0.1, jitter_seconds=0.05)
CUTS = {
    "silent": SILENT,
    "nothing comes back": ONE_WAY_THERE,
    "nothing gets there": ONE_WAY_BACK,
    "refused": REFUSING,
    "slow": SLOW,
}
SHORTER_THAN_A_LEASE = 3.5
# A stream that has ended may be opened again within three seconds.
SHORTER_THAN_A_RETURN = 2.0
LONGER_THAN_A_LEASE = 18.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """A Pawl whose services call each other through links."""

    stack: FaultStack
    links: Links

    def pair(self, caller: str, callee: str) -> Pair:
        """The link from an instance to what it calls."""
        service = caller.partition("-")[0]
        (address,) = [i.address for i in self.stack.ready.services[service] if i.instance == caller]
        return Pair(address, callee)


@pytest_asyncio.fixture(scope="module")
async def linked(
    tmp_path_factory: pytest.TempPathFactory, session_seed: int
) -> AsyncIterator[Linked]:
    """One for all tests here: every link is fair again after each."""
    with Links(seed=session_seed) as links:
        place = tmp_path_factory.mktemp("linked") / "stack"
        async with fault_stack(place, links=links) as stack:
            yield Linked(stack=stack, links=links)


async def _pass(seconds: float, log: ClientLog) -> None:
    """Let clients ask for so long, by the times that they note themselves."""
    began = max((o.ended_at for o in log.operations), default=0.0)
    await eventually(
        lambda: max(o.ended_at for o in log.operations) >= began + seconds, timeout=seconds + 40
    )


async def test_without_auth_known_callers_are_served_for_five_seconds_at_most(
    linked: Linked, seed: int
) -> None:
    stack, load = linked.stack, Load(linked.stack.server, seed=f"{seed}-auth")
    operator = Client(stack.server)
    made = operator.post("/v1/keys", {"tenant": "default"})
    revoked = FaultClient(Server(url=stack.server.url, api_key=made["key"]), load.log)
    assert revoked.create({}, f"{seed}-before").outcome == "ok"
    operator.delete(f"/v1/keys/{made['id']}")
    with load.running(Pace(clients=4, per_second=30)) as log:
        await more_done(log, 100)
        with linked.links.weather(REFUSING, linked.pair("gateway-1", "auth")):
            began = max(o.ended_at for o in log.operations)
            await _pass(5.5, log)
            late = [o for o in log.operations if o.began_at > began + 5]
            assert {o.outcome for o in late} == {"unknown"}
            refused = revoked.create({}, f"{seed}-during")
        await eventually(lambda: revoked.create({}, f"{seed}-after").status == 401, timeout=10)
        await more_done(log, 50)
    revoked.close()

    assert refused.outcome != "ok"
    assert {o.status for o in late} == {503}
    check_run(await stack.history(log), hits=late)


async def _cut_in_every_way(
    linked: Linked, load: Load, *pairs: Pair, cuts: Collection[Weather] = tuple(CUTS.values())
) -> ClientLog:
    """Clients at work while the links are cut, one way after the other, and fair between."""
    with load.running(Pace(clients=6, per_second=30, retry_seconds=15)) as log:
        await more_done(log, 20)
        for weather in cuts:
            with linked.links.weather(weather, *pairs):
                await _pass(SHORTER_THAN_A_LEASE, log)
            await more_done(log, 20)
    return log


async def test_short_cut_between_executor_and_scheduler_is_not_noticed(
    linked: Linked, seed: int
) -> None:
    stack, load = linked.stack, Load(linked.stack.server, seed=f"{seed}-executor")

    pair = linked.pair("executor-1", "scheduler")
    cuts = [weather for weather in CUTS.values() if not weather.refuses]
    before = await _lost(stack)

    with stack.holding():
        log = await _cut_in_every_way(linked, load, pair, cuts=cuts)

    history = await stack.history(log)
    assert await _lost(stack) == before
    check_run(history, hits=cuts)


async def test_stream_that_can_be_opened_again_in_time_keeps_its_tasks(
    linked: Linked, seed: int
) -> None:
    stack, before = linked.stack, await _lost(linked.stack)
    work = Work(most_steps=2, most_seconds=4.0, failing_share=0)
    load = Load(stack.server, seed=f"{seed}-return", work=work)
    with load.running(Pace(clients=6, per_second=20, retry_seconds=15)) as log:
        await more_done(log, 60)
        with linked.links.weather(REFUSING, linked.pair("executor-1", "scheduler")):
            await _pass(SHORTER_THAN_A_RETURN, log)
        await more_done(log, 60)

    check_run(await stack.history(log), hits=[SHORTER_THAN_A_RETURN])
    assert await _lost(stack) == before


async def _lost(stack: FaultStack) -> int:
    (row,) = await stack.ask(
        "SELECT count(*) AS lost FROM scheduler.tasks WHERE failure_code = 'EXECUTOR_LOST'"
    )
    return int(row["lost"])


@pytest.mark.parametrize("cut", ["silent", "nothing comes back"])
async def test_long_cut_between_executor_and_scheduler_has_one_owner_of_each_task(
    linked: Linked, seed: int, cut: str
) -> None:
    stack, links = linked.stack, linked.links
    work = Work(most_steps=4, most_seconds=0.3)
    load = Load(stack.server, seed=f"{seed}-long-{cut}", work=work)
    with load.running(Pace(clients=6, per_second=20, retry_seconds=15)) as log:
        await more_done(log, 60)
        # Heartbeats that get there keep the lease: a step waits, once it is recorded, until the
        # acknowledgement comes back.
        held = stack.holding() if cut == "nothing comes back" else nullcontext()
        with held, links.weather(CUTS[cut], linked.pair("executor-1", "scheduler")):
            await _pass(LONGER_THAN_A_LEASE, log)
        await more_done(log, 60)

    history = await stack.history(log)
    moved = [t.id for t in history.dump.tasks if t.lease_token > 1 or t.failure_code]
    check_run(history, hits=moved)


async def test_cut_between_scheduler_and_database_is_admitted_and_loses_nothing(
    linked: Linked, seed: int
) -> None:
    stack, load = linked.stack, Load(linked.stack.server, seed=f"{seed}-database")

    with stack.holding():
        log = await _cut_in_every_way(linked, load, linked.pair("scheduler-1", DATABASE))

    check_run(await stack.history(log), hits=CUTS)


async def test_cut_between_gateway_and_schedulers_is_admitted_and_repeats_nothing(
    linked: Linked, seed: int
) -> None:
    stack, load = linked.stack, Load(linked.stack.server, seed=f"{seed}-gateway")

    log = await _cut_in_every_way(linked, load, linked.pair("gateway-1", "scheduler"))

    repeated = [o for o in log.operations if o.attempts > 1]
    # A silent scheduler is a deadline that passes.
    history = await stack.history(log, tolerated=frozenset({503, 504}))
    check_run(history, hits=repeated)


async def test_cut_between_executors_and_artifact_fails_the_step_and_nothing_else(
    linked: Linked, seed: int
) -> None:
    stack = linked.stack
    load = Load(stack.server, seed=f"{seed}-artifact", work=Emitting())
    pairs = [linked.pair(name, "artifact") for name in ("executor-1", "executor-2")]

    log = await _cut_in_every_way(linked, load, *pairs)

    history = await stack.history(log)
    failed = [t.failure_code for t in history.dump.tasks if '"artifact"' in (t.plan or "")]
    assert set(failed) == {None, "ARTIFACT_STORE"}
    check_run(history, hits=failed)


class Emitting(Work):
    """Tasks that emit an artifact."""

    def body(self, rng: object) -> dict[str, object]:
        del rng
        step = {"step_index": 1, "tool": "artifact", "input": {"type": "note", "data": [1]}}
        return {"task_definition": {}, "plan": {"steps": [step]}, "timeout_seconds": 12}
