"""Run one asyncio program until it ends or the process is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

import uvloop

from libs.process.crash_points import arm_crash_points
from libs.process.env import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_STOPPED, ConfigError
from libs.process.logs import configure_logs, get_logger
from libs.process.tracing import configure_tracing, stop_tracing

__all__ = ["EXIT_BAD_CONFIG", "EXIT_FAILED", "EXIT_STOPPED", "leave_at_once", "run"]

log = get_logger(__name__)


def leave_at_once(code: int) -> NoReturn:
    """Leave the process without the end of the interpreter, all that was written being out.

    For programs whose libraries have threads of their own that come to Python now and then: one
    that comes while the interpreter ends is thrown out of code that cannot be left like this, and
    aborts the process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(
    main: Callable[[asyncio.Event], Awaitable[None]],
    *,
    service: str,
    leave: Callable[[int], NoReturn] = sys.exit,
) -> None:
    """Run `main(stop)` on uvloop and leave the process with its exit code.

    SIGTERM and SIGINT set `stop`; `main` then drains and returns. Exit codes: 0 after a clean stop,
    1 with a logged error when `main` raised, 2 with the message on stderr when it raised
    ConfigError; `leave` is called with it. Logs go to stderr at level info from the start; `main`
    may configure them again. Spans are exported when OpenTelemetry's variables say so; the last
    ones leave after `main`.
    """
    configure_logs(service)
    # What was made by importing stays for good: nobody need look through it again and again.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_guarded(main, service=service))
    stop_tracing()
    leave(code)


async def _guarded(main: Callable[[asyncio.Event], Awaitable[None]], *, service: str) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        configure_tracing(service, os.environ)
        arm_crash_points(os.environ)
        await main(stop)
    except ConfigError as error:
        print(f"{service}: {error}", file=sys.stderr)  # noqa: T201 - read by whoever started it
        return EXIT_BAD_CONFIG
    except Exception:
        log.exception("process failed")
        return EXIT_FAILED
    return EXIT_STOPPED
