"""`pawl up` whose services call each other through links: `python -m tests.faults.linked_up`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from libs.cli.up.console import UpConsole
from libs.cli.up.run import UpOptions, run_up
from libs.cli.up.services import MODULES

LINKED = ("scheduler", "executor", "artifact", "gateway")


def main() -> None:
    """Run it and leave with its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--executors", type=int, default=1)
    parser.add_argument("--schedulers", type=int, default=1)
    given = parser.parse_args()
    options = UpOptions(
        data_dir=given.data_dir,
        environ=os.environ,
        port=given.port,
        executors=given.executors,
        schedulers=given.schedulers,
        modules=MODULES | {service: f"tests.faults.linked_{service}" for service in LINKED},
    )
    sys.exit(asyncio.run(run_up(options, UpConsole(width=200))))


if __name__ == "__main__":
    main()
