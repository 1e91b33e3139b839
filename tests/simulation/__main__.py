"""Runs histories by their seeds: `python -m tests.simulation storm 7` shows what happens in one,
`python -m tests.simulation storm 0 500` runs the seeds 0 to 499 and prints what came of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from tests.simulation.histories import PROFILES, Told, run
from tests.simulation.machines import Build
from tests.simulation.mutants import MUTANTS
from tests.simulation.virtual_loop import VirtualLoop, running_process
from tests.simulation.world import World

ACTS = (
    *("submit", "cancel", "step_clock", "deafen", "fail", "finish", "pause_database"),
    *("resume_database", "start_scheduler", "kill_scheduler", "stop_scheduler", "reset", "cut"),
    *("freeze_scheduler", "thaw_scheduler", "start_executor", "kill_executor", "stop_executor"),
    *("freeze_executor", "thaw_executor", "heal"),
)


def quiet() -> None:
    """Say nothing of what happens."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


class ToldWorld(World):
    """A world that says what is done to it."""

    def __getattribute__(self, name: str) -> Any:
        """Acts are printed when they are looked up to be done."""
        found = super().__getattribute__(name)
        if name not in ACTS:
            return found

        def told(*places: Any, **names: Any) -> Any:
            print(f"{self.loop.time():9.3f} >>> {name} {places or ''} {names or ''}")
            return found(*places, **names)

        return told


def show(_logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """A line of a log with the virtual time and the process that says it."""
    now = VirtualLoop.latest.time() if VirtualLoop.latest is not None else 0.0
    process = running_process()
    said = " ".join(f"{key}={event[key]}" for key in event if key not in {"event", "module"})
    name = "-" if process is None else process.name
    return f"{now:9.3f} {name:12} {method:7} {event['event']} {said}"


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("first", type=int)
    parser.add_argument("end", type=int, nargs="?")
    parser.add_argument("--mutant", choices=[mutant.name for mutant in MUTANTS])
    asked = parser.parse_args()
    told = Told()
    profile = PROFILES[asked.profile]
    chosen = [mutant.build() for mutant in MUTANTS if mutant.name == asked.mutant]
    build: Build | None = chosen[0] if chosen else None
    if asked.end is None:
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, show],
            logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        )
        run(asked.first, profile, told, build=build, world=ToldWorld)
    else:
        quiet()
        for seed in range(asked.first, asked.end):
            run(seed, profile, told, build=build)
    print(json.dumps(vars(told)))
    sys.exit(bool(told.failures))


if __name__ == "__main__":
    main()
