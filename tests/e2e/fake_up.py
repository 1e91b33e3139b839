"""`pawl up` with processes that only look like services: `python -m tests.e2e.fake_up OPTIONS`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from libs.cli.up.console import UpConsole
from libs.cli.up.run import UpOptions, run_up
from libs.cli.up.services import MODULES


def main() -> None:
    """Run it and leave with its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--executors", type=int, default=1)
    parser.add_argument("--schedulers", type=int, default=1)
    given = parser.parse_args()
    options = UpOptions(
        data_dir=given.data_dir,
        environ=os.environ,
        port=given.port,
        ready_files=() if given.ready_file is None else (given.ready_file,),
        executors=given.executors,
        schedulers=given.schedulers,
        modules=dict.fromkeys(MODULES, "tests.e2e.fake_service"),
    )
    code = asyncio.run(run_up(options, UpConsole(width=200)))
    heavy = {"grpc", "fastapi", "sqlalchemy", "alembic"} & set(sys.modules)
    if heavy:
        sys.exit(f"the parent has loaded {sorted(heavy)}")
    sys.exit(code)


if __name__ == "__main__":
    main()
