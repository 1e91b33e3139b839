"""Bounds that the kernel holds the code to."""

import math
import os
import resource
import threading
from contextlib import suppress
from pathlib import Path

from . import libc
from .request import Limits

HEADROOM_BYTES = 16 * 2**20
"""What is left to report with when the code has used up its memory."""

THREAD_STACK_BYTES = 2 * 2**20
STACK_BYTES = 8 * 2**20
OPEN_FILES = 64
TASKS = 64

_ADDRESS_SPACE_BYTES = 64 * 2**20
"""For mappings that hold nothing of the code, such as libraries."""

_MESSAGE_QUEUES = 12
_FIRST_USER_NAMESPACE = ["0", "0", "4294967295"]


def bound(limits: Limits) -> None:
    """Bound this process. OSError or ValueError when that cannot be."""
    libc.share_one_heap()
    threading.stack_size(THREAD_STACK_BYTES)
    cpu_seconds = max(1, math.ceil(limits.cpu_seconds))
    memory = limits.memory_bytes
    space = _address_space_bytes() + memory + _ADDRESS_SPACE_BYTES
    # Whoever does not end at the soft limit is killed a second later.
    _set(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1)
    _set(resource.RLIMIT_CORE, 0, 0)
    _set(resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes)
    _set(resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
    _set(resource.RLIMIT_STACK, STACK_BYTES, STACK_BYTES)
    _set(resource.RLIMIT_MEMLOCK, 0, 0)
    # The data of a process are what is its own; memory to share counts as address space alone.
    _set(resource.RLIMIT_DATA, memory, memory + HEADROOM_BYTES)
    _set(resource.RLIMIT_AS, space, space + HEADROOM_BYTES)
    if _has_own_user_namespace():
        _set(resource.RLIMIT_NPROC, TASKS, TASKS)
    with suppress(ValueError, OSError):  # gVisor knows no such limit, nor message queues
        _set(getattr(resource, "RLIMIT_MSGQUEUE", _MESSAGE_QUEUES), 0, 0)


def give_headroom() -> None:
    """Let this process use the memory that was kept for its report."""
    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (hard, hard))


def _set(kind: int, soft: int, hard: int) -> None:
    """Set a limit, or leave what is lower already."""
    _, top = resource.getrlimit(kind)
    if top != resource.RLIM_INFINITY:
        soft, hard = min(soft, top), min(hard, top)
    resource.setrlimit(kind, (soft, hard))


def _address_space_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _has_own_user_namespace() -> bool:
    """Otherwise others' processes of the same user would count."""
    try:
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except OSError:
        return False
    return mapped != _FIRST_USER_NAMESPACE
