"""An open loop: tasks arrive at a fixed rate, whether or not the ones before have been taken."""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import dataclass
from itertools import count
from typing import Any, LiteralString

import psycopg

from bench.measure import Latency, latency_of
from bench.workloads import Connection, Target, math_plan

PROCESSES = 2
THREADS = 24
"""Connections of each process: more requests at once wait for one, and their wait counts."""
DRAIN_SECONDS = 120.0
_LOOK_SECONDS = 0.1

_NOW: LiteralString = "SELECT clock_timestamp()"
_STATES: LiteralString = """
SELECT count(*), count(*) FILTER (WHERE state = 'succeeded'),
  count(*) FILTER (WHERE finished_at IS NULL)
FROM scheduler.tasks WHERE created_at >= %s
"""
_DURATIONS: LiteralString = """
SELECT CAST(extract(epoch FROM finished_at - created_at) AS double precision)
FROM scheduler.tasks WHERE created_at >= %s AND finished_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """What became of the tasks. `create` counts from when a task was due to its acknowledgement,
    `end_to_end` from creation to end by the database's clock; `backlog` had not ended when the last
    was acknowledged, and was worked off `drain_seconds` later.
    """

    asked_per_second: float
    seconds: float
    accepted: int
    accepted_per_second: float
    succeeded: int
    create: Latency
    end_to_end: Latency
    backlog: int
    drain_seconds: float


def sustained(target: Target, *, rate: float, seconds: float, dsn: str) -> Sustained:
    """Three-step tasks at `rate` per second; RuntimeError unless all of them succeed.

    `dsn` is of a role that may read the tasks; nobody else may submit any meanwhile.
    """
    with psycopg.connect(dsn, autocommit=True) as reader:
        [since] = reader.execute(_NOW).fetchone() or (None,)
        took, latencies = _create(target, rate=rate, seconds=seconds)
        accepted, succeeded, backlog = _states(reader, since)
        drained, began = backlog == 0, time.monotonic()
        while not drained and time.monotonic() - began < DRAIN_SECONDS:
            time.sleep(_LOOK_SECONDS)
            accepted, succeeded, left = _states(reader, since)
            drained = left == 0
        drain_seconds = time.monotonic() - began
        durations = [row[0] for row in reader.execute(_DURATIONS, (since,))]
    if not accepted == succeeded == len(latencies):
        raise RuntimeError(
            f"{len(latencies)} tasks were acknowledged, {accepted} stored, {succeeded} succeeded"
        )
    return Sustained(
        asked_per_second=rate,
        seconds=took,
        accepted=accepted,
        accepted_per_second=accepted / took,
        succeeded=succeeded,
        create=latency_of(latencies),
        end_to_end=latency_of(durations),
        backlog=backlog,
        drain_seconds=drain_seconds if backlog else 0.0,
    )


def _states(reader: psycopg.Connection[Any], since: object) -> tuple[int, int, int]:
    [row] = reader.execute(_STATES, (since,)).fetchall()
    return int(row[0]), int(row[1]), int(row[2])


def _create(target: Target, *, rate: float, seconds: float) -> tuple[float, list[float]]:
    """Submit from several processes; how long it took, and each task's time."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.SimpleQueue[tuple[float, list[float]]] = context.SimpleQueue()
    barrier = context.Barrier(PROCESSES)
    workers = [
        context.Process(
            target=_arrivals, args=(target, rate / PROCESSES, seconds, barrier, results)
        )
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    answers = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return max(took for took, _ in answers), [one for _, seen in answers for one in seen]


def _arrivals(
    target: Target,
    rate: float,
    seconds: float,
    barrier: threading.Barrier,
    results: multiprocessing.SimpleQueue[tuple[float, list[float]]],
) -> None:
    body, turns, seen = math_plan(3), count(), list[float]()
    total = int(rate * seconds)
    barrier.wait()
    began = time.perf_counter()

    def loop() -> None:
        connection = Connection(target)
        # next() of a count is one step of the interpreter: every arrival has one thread.
        while (turn := next(turns)) < total:
            due = began + turn / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.execute(body, wait=False)
            seen.append(time.perf_counter() - due)

    threads = [threading.Thread(target=loop) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((time.perf_counter() - began, seen))
