"""What the database alone can do, in the same run: the floor under every figure."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

_BODY_BYTES = 800
_CREATE = """
CREATE SCHEMA bench;
CREATE TABLE bench.records (id uuid PRIMARY KEY, body text NOT NULL, at timestamptz NOT NULL);
"""
_INSERT = (
    "INSERT INTO bench.records (id, body, at) "
    f"VALUES (gen_random_uuid(), repeat('x', {_BODY_BYTES}), clock_timestamp())"
)
_SELECT = "SELECT 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Statements per second. An insert is one statement, one commit, one record of 0.8 KB."""

    program: str
    insert_1_client: float
    insert_16_clients: float
    select_1_client: float


def measure_floor(owner_dsn: str, *, seconds: int) -> Floor:
    """Insert and select for `seconds` each, in a schema of its own that is dropped again."""
    program = _pgbench()
    with _schema(owner_dsn):
        rates = [
            _rate(program, owner_dsn, statement, clients=clients, seconds=seconds)
            for statement, clients in ((_INSERT, 1), (_INSERT, 16), (_SELECT, 1))
        ]
    return Floor(
        program=program or "psycopg loop (pgbench is not installed)",
        insert_1_client=rates[0],
        insert_16_clients=rates[1],
        select_1_client=rates[2],
    )


def _pgbench() -> str | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    return str(debian[-1]) if debian else shutil.which("pgbench")


@contextmanager
def _schema(dsn: str) -> Iterator[None]:
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("DROP SCHEMA IF EXISTS bench CASCADE")
        owner.execute(_CREATE)
        try:
            yield
        finally:
            owner.execute("DROP SCHEMA bench CASCADE")


def _rate(program: str | None, dsn: str, statement: str, *, clients: int, seconds: int) -> float:
    if program is None:
        return _loop(dsn, statement, clients=clients, seconds=seconds)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(statement + ";\n")
        script.flush()
        options = ("-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)))
        done = subprocess.run(
            [program, *options, "-T", str(seconds), "-f", script.name, dsn],
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"{program} says no tps: {done.stdout[-300:]}")
    return float(found[1])


def _loop(dsn: str, statement: str, *, clients: int, seconds: int) -> float:
    counts = [0] * clients
    began = time.perf_counter()

    def run(place: int) -> None:
        with psycopg.connect(dsn, autocommit=True, prepare_threshold=0) as connection:
            while time.perf_counter() - began < seconds:
                connection.execute(statement.encode())
                counts[place] += 1

    threads = [threading.Thread(target=run, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)
