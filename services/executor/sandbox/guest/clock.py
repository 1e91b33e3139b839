"""A wall clock that stands still."""

import ctypes
import datetime as dt
import gc
import time
from collections.abc import Callable
from typing import Any

_STANDING = {
    getattr(time, name) for name in ("CLOCK_REALTIME", "CLOCK_TAI") if hasattr(time, name)
} | {5}
"""The clocks that tell the time of day; 5 is the coarse one."""


def stop_clock(now: float) -> None:
    """Let the wall clock say `now`, in seconds since 1970, for ever. Monotonic clocks run on."""
    whole = int(now)
    nanoseconds = whole * 1_000_000_000 + round((now - whole) * 1_000_000_000)
    _stop_time(now, nanoseconds)
    _stop_datetime(now)


def _stop_time(seconds: float, nanoseconds: int) -> None:
    time.time = lambda: seconds
    time.time_ns = lambda: nanoseconds
    for name in ("gmtime", "localtime", "ctime"):
        setattr(time, name, _with_default(getattr(time, name), lambda: seconds))
    asctime, strftime = time.asctime, time.strftime
    time.asctime = _with_default(asctime, lambda: time.localtime(seconds))
    time.strftime = lambda form, moment=None: strftime(
        form, time.localtime(seconds) if moment is None else moment
    )
    clock, clock_ns = time.clock_gettime, time.clock_gettime_ns
    time.clock_gettime = lambda kind: seconds if kind in _STANDING else clock(kind)
    time.clock_gettime_ns = lambda kind: nanoseconds if kind in _STANDING else clock_ns(kind)


def _with_default(call: Callable[..., Any], default: Callable[[], Any]) -> Callable[..., Any]:
    return lambda given=None: call(default() if given is None else given)


def _stop_datetime(seconds: float) -> None:
    """datetime.today and date.today ask time.time; these two ask the system, so they change."""

    def now(cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
        return cls.fromtimestamp(seconds, tz)

    def utcnow(cls: type[dt.datetime]) -> dt.datetime:
        return cls.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None)

    # The class is immutable from Python. A class of our own in its place would not do: nothing that
    # fromtimestamp or + gives would be of it, and pickle refuses such a pair.
    (members,) = gc.get_referents(dt.datetime.__dict__)
    members["now"] = classmethod(now)
    members["utcnow"] = classmethod(utcnow)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))
    if dt.datetime.now() != dt.datetime.fromtimestamp(seconds):
        raise RuntimeError("the clock of datetime cannot be stopped in this Python")
