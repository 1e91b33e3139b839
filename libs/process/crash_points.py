"""Named points at which a process kills itself, so that a test can say where exactly it died.

Nothing happens unless PAWL_CRASH_AT names a point; then the process sends itself SIGKILL there.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from libs.process.env import ConfigError
from libs.process.logs import get_logger

CRASH_AT = "PAWL_CRASH_AT"
CRASH_DIR = "PAWL_CRASH_DIR"

CrashPoint = Literal[
    "create.before_commit",
    "create.after_commit_before_reply",
    "idem.after_insert",
    "queue.after_claim",
    "step.before_record",
    "step.after_record_before_call",
    "step.after_call_before_commit",
    "step.after_commit",
    "finish.before_commit",
    "finish.after_commit_before_event_publish",
    "outbox.after_send_before_mark",
    "consumer.after_db_before_offset",
    "artifact.after_blob_before_row",
    "artifact.after_row",
    "cancel.after_commit_before_kill",
    "lost.before_settle",
    "lost.after_settle",
]
"""Every point there is; docs/contributing.md says where each lies."""

CRASH_POINTS: tuple[str, ...] = get_args(CrashPoint)

_NTH = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)

log = get_logger(__name__)


@dataclass(slots=True)
class _Armed:
    """What is to happen in this process: passings left until each point, and where it is noted."""

    left: dict[str, int] = field(default_factory=dict)
    directory: Path | None = None


_armed = _Armed()


def arm_crash_points(environ: Mapping[str, str]) -> None:
    """Arm what PAWL_CRASH_AT names: `point[:nth]`, several of them with commas between.

    `nth` counts the passings in one process, from 1. With PAWL_CRASH_DIR, a directory that all
    processes share, each point kills once and never again: whoever dies first leaves a file there
    with the name of the point. Without it every process dies at it, after a restart too.
    ConfigError for a point that does not exist.
    """
    wanted = [item for item in environ.get(CRASH_AT, "").split(",") if item.strip()]
    given = environ.get(CRASH_DIR, "").strip()
    _armed.directory = Path(given) if given else None
    _armed.left = dict(_parsed(item.strip()) for item in wanted)
    if _armed.left:
        log.warning("crash points are armed", points=dict(_armed.left))


def pass_crash_point(point: CrashPoint) -> None:
    """Die here if this passing of `point` was asked for; otherwise nothing."""
    if _armed.left:
        _pass(point)


def hits(directory: Path) -> frozenset[str]:
    """The points that have killed a process, as noted in `directory`."""
    return frozenset(path.name for path in directory.iterdir() if path.name in CRASH_POINTS)


def _parsed(item: str) -> tuple[str, int]:
    name, separator, nth = item.partition(":")
    if name not in CRASH_POINTS:
        raise ConfigError(
            f"{CRASH_AT} names {name!r}; allowed are {', '.join(sorted(CRASH_POINTS))}"
        )
    if separator and not _NTH.fullmatch(nth):
        raise ConfigError(f"{CRASH_AT} says {item!r}; after the colon a number from 1 is allowed")
    return name, int(nth) if separator else 1


def _pass(point: str) -> None:
    left = _armed.left.get(point)
    if left is None:
        return
    if left > 1:
        _armed.left[point] = left - 1
        return
    del _armed.left[point]
    if _is_first(point):
        log.error("killed at a crash point", point=point, pid=os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)


def _is_first(point: str) -> bool:
    """Whether no process has died at it before; then that one has now."""
    if _armed.directory is None:
        return True
    try:
        with (_armed.directory / point).open("x", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except FileExistsError:
        return False
    return True
