"""What brings back, after the code, all that a report needs and code may have changed."""

import builtins
import mmap
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

_RESERVE_BYTES = 2 * 2**20
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class Aftermath:
    """Made before the code runs. After it, `release` comes first: then there is memory again."""

    def __init__(self) -> None:
        # Address space that counts as memory of ours, and is none before somebody writes to it.
        self.release = mmap.mmap(-1, _RESERVE_BYTES, flags=mmap.MAP_PRIVATE).close
        self._names = dict(builtins.__dict__)
        self._put_back = builtins.__dict__.update
        self._recursion = sys.getrecursionlimit()
        self._streams = sys.stdout, sys.stderr
        self._frame: FrameType | None = None

    def see(self, frame: FrameType, event: str, given: Any) -> None:
        """Called by Python as the first frame of the code begins; not again."""
        del event, given
        sys.settrace(None)
        self._frame = frame

    @property
    def line(self) -> int | None:
        """The last line of the code outside functions: known also where memory was too short for a
        traceback.
        """
        return None if self._frame is None else self._frame.f_lineno

    def restore(self) -> None:
        """Builtins, the recursion limit, no timer; and what was printed is written."""
        self._put_back(self._names)
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        sys.setrecursionlimit(self._recursion)
        for stream in (sys.stdout, sys.stderr, *self._streams):
            with suppress(Exception):
                stream.flush()
