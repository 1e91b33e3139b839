"""The statements in memory answer what PostgreSQL answers, and leave the same rows behind.

Random sequences of operations run on both. Time stands still on both sides but for `advance`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, reject, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from tests.servers import Database
from tests.simulation.both_stores import ALLOW_CLEARING, BROKE, BothStores
from tests.simulation.profiles import CONFORMANCE_SEQUENCES
from tests.simulation.tables import S
from tests.store.scheduler_rows import scheduler_stores

pytestmark = [pytest.mark.db, pytest.mark.timeout(900)]

MOST_OPERATIONS = 60
MOST_ROWS = 3
# No sum of 14 of them comes near the 3, 5 and 10 seconds, nor the three quarters, that decide.
STEPS_OF_TIME = (0.05, 0.05, 0.05, 2.05, 2.05, 4.05, 6.05, 11.05)
FEW = st.integers(0, 3)
RECORDED = (frozenset[str](), frozenset({"math"}), frozenset({"math", "wait"}))


@dataclass(frozen=True)
class Operation:
    """A method of BothStores and its arguments."""

    name: str
    places: tuple[Any, ...]
    names: dict[str, Any]

    async def run(self, both: BothStores) -> None:
        await getattr(both, self.name)(*self.places, **self.names)


def operation(
    name: str, *places: st.SearchStrategy[Any], **names: st.SearchStrategy[Any]
) -> st.SearchStrategy[Operation]:
    """A method of BothStores with drawn arguments."""
    return st.builds(Operation, st.just(name), st.tuples(*places), st.fixed_dictionaries(names))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """None, or one of these."""
    return st.none() | strategy


submits = operation(
    "submit",
    tenant=st.integers(0, 1),
    steps=st.integers(1, 3),
    tool=st.sampled_from((0, 0, 0, 1)),
    limit=maybe(st.integers(1, 2)),
    agent=maybe(st.tuples(st.integers(0, 1), maybe(st.integers(1, 2)))),
    priority=st.sampled_from((0, 0, 0, 5)),
    key=maybe(st.sampled_from(("k1", "k2"))),
    planned=st.sampled_from((True, True, True, True, False)),
    scheduled_in=maybe(st.sampled_from((-3.0, 4.0, 4.0, 9.0))),
    replays=maybe(st.tuples(FEW, maybe(st.sampled_from(RECORDED)))),
)
hellos = operation("hello", st.integers(0, 1), again=maybe(FEW), tools=FEW, slots=st.integers(1, 3))
claims = operation("on_stream", st.just("claim"), FEW, slots=st.integers(1, 3))


def whole(drawn: dict[str, Any]) -> dict[str, Any]:
    """A report that means something: a task that ends begins no step, a failed step ends it."""
    if "failure" in drawn:
        drawn |= {"ends": S.FAILED}
    if "ends" in drawn:
        drawn.pop("begins", None)
    return drawn or {"begins": 2}


parts = st.fixed_dictionaries(
    {},
    optional={
        "closes": st.integers(1, 3),
        "begins": st.integers(1, 3),
        "ends": st.sampled_from((S.SUCCEEDED, S.CANCELLED)),
        "failure": st.just(BROKE),
    },
).map(whole)
reports = operation("report", FEW, off=st.sampled_from((0, 0, 0, 0, 1, 2, 3)), parts=parts)
others = [
    operation("report_again", FEW),
    operation("on_stream", st.sampled_from(("renew", "renew", "end_stream", "held")), FEW),
    operation("on_stream", st.just("end_boot"), FEW),
    operation("cancel", FEW, tenant=st.integers(0, 1)),
    operation("get", FEW, tenant=st.integers(0, 1)),
    operation("live_on", st.sampled_from((1.05, 1.05, 2.05, 3.05, 4.05))),
    operation("settle", st.sampled_from(("lost", "due", "old"))),
    operation("settle", st.just("lost")),
    operation("queue_due"),
    operation("settle_boots"),
    operation("relay"),
    operation("advance", st.sampled_from(STEPS_OF_TIME)),
    operation("sweep_in_the_future", st.sampled_from((2.475, 6.475))),
]
replays = [
    operation("replay", FEW),
    operation("recall", FEW, step=st.integers(1, 2), off=st.sampled_from((0, 0, 0, 1))),
]
# Not one_of: it takes each only once.
operations = st.sampled_from(
    [submits, hellos, *(3 * [claims]), *(9 * [reports]), *(2 * others), *replays]
).flatmap(lambda chosen: chosen)


def first(tenant: int, **changes: Any) -> Operation:
    """A task that anybody may run at once."""
    said = {
        "steps": 1 + tenant,
        "tool": 0,
        "limit": 2,
        "agent": None,
        "priority": 0,
        "scheduled_in": None,
        "replays": None,
    }
    said |= {"tenant": tenant, "key": None, "planned": True}
    return Operation("submit", (), said | changes)


def stream(executor: int) -> Operation:
    """A stream of an executor that offers all."""
    return Operation("hello", (executor,), {"again": None, "tools": 1, "slots": 3})


MARKS = (
    *("OK goes on", "OK succeeded", "OK failed", "LATE cancelled", "SEEN goes on"),
    *("STALE_LEASE goes on", "TERMINAL goes on", "limited", "taken over", "void", "published"),
    *("submit planned", "submit queued", "submit replayed", "queued later", "hello refused"),
    *("hello ended 1", "renewal in_time", "renewal after_lapse", "renewal refused", "paused"),
    *("boot ended", "cancel cancelled", "cancel running", "due settled failed TIMEOUT"),
    *("lost settled failed EXECUTOR_LOST", "lost settled running None"),
    *("replayed live", "replayed recorded", "recalled nothing", "recalled a step"),
)
"""What has to happen in a run, else it has compared too little."""

BEGINNING = [
    *(first(tenant) for tenant in (0, 1, 1)),
    *(stream(executor) for executor in (0, 1)),
    Operation("on_stream", ("claim", 0), {"slots": 2}),
    Operation("on_stream", ("claim", 1), {"slots": 2}),
]

RARE = [
    first(0, scheduled_in=4.0),
    Operation("advance", (4.05,), {}),
    Operation("queue_due", (), {}),
    Operation("report", (0,), {"off": 0, "parts": {"begins": 1}}),
    Operation("report", (0,), {"off": 0, "parts": {"closes": 1}}),
    Operation("replay", (0,), {}),
    Operation("advance", (11.05,), {}),
    Operation("on_stream", ("renew", 0), {}),
]
"""What drawing comes upon too seldom."""


@pytest.fixture
async def both(database: Database) -> AsyncIterator[BothStores]:
    """Both sides, not yet begun."""
    async with (
        scheduler_stores(database) as stores,
        await psycopg.AsyncConnection.connect(
            database.owner_dsn, autocommit=True, row_factory=dict_row
        ) as owner,
    ):
        await owner.execute(ALLOW_CLEARING.encode())
        both = BothStores(real=stores, owner=owner, most_rows=MOST_ROWS)
        yield both
        missing = {mark for mark in MARKS if not both.marks[mark]}
        assert not missing, f"never happened: {missing}; {sorted(both.marks.items())}"


@settings(
    max_examples=CONFORMANCE_SEQUENCES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@example(sequence=RARE)
@given(sequence=st.lists(operations, min_size=25, max_size=MOST_OPERATIONS))
async def test_memory_answers_what_postgresql_answers(
    both: BothStores, sequence: list[Operation]
) -> None:
    await both.begin()

    for operate in BEGINNING + sequence:
        try:
            await operate.run(both)
        except AssertionError:
            if both.is_late:
                # The machine was too busy for real time to stand still.
                reject()
            raise

    await both.compare()
