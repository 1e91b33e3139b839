"""A process that behaves like a service of Pawl towards `pawl up`, and does nothing else.

It is told what to do by files in the data directory: `fail-<name>` makes it end at the start with
the exit code in that file, `stubborn-<name>` makes it stay when told to stop.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from libs.process.env import ConfigError
from libs.process.metrics import serve_metrics, set_ready
from libs.process.run import run

NAME = Path(os.environ["PAWL_SERVICE_KEY_FILE"]).stem.removeprefix("service_")
DATA_DIR = Path(os.environ["PAWL_DATA_DIR"])
KEY = "pawl_live_fake"


async def serve(stop: asyncio.Event) -> None:
    """Be ready until told to stop."""
    told = DATA_DIR / f"fail-{NAME}"
    if os.access(told, os.F_OK):
        await _fail(int(told.read_text()))
    serve_metrics(os.environ["PAWL_METRICS_LISTEN"])
    address = os.environ.get("PAWL_LISTEN") or os.environ["PAWL_HTTP_LISTEN"]
    host, _, port = address.rpartition(":")
    async with await asyncio.start_server(_hang_up, host, int(port)):
        set_ready(True)
        await stop.wait()
    if os.access(DATA_DIR / f"stubborn-{NAME}", os.F_OK):
        await asyncio.Event().wait()
    with (DATA_DIR / "stopped").open("a") as file:
        file.write(f"{NAME}\n")


async def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _fail(code: int) -> None:
    if code == 2:
        raise ConfigError("this setting is not allowed")
    print("the disk is on fire", file=sys.stderr, flush=True)
    os._exit(code)


def main() -> None:
    """Serve, or be a command of auth."""
    if sys.argv[1:2] == ["bootstrap"]:
        with (DATA_DIR / "bootstraps").open("a") as file:
            file.write(" ".join(sys.argv[2:]) + "\n")
        print(json.dumps({"api_key": KEY, "key_id": "x"}))
    elif sys.argv[1:2] == ["check-key"]:
        sys.exit(0 if sys.stdin.read() == KEY else 1)
    else:
        run(serve, service=NAME)


if __name__ == "__main__":
    main()
