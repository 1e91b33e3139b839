"""What is told of an exception that code raised: of its own lines, and bounded."""

import errno
import traceback
from collections import deque
from types import TracebackType
from typing import Any

STEP = "<step>"
"""The file name of the code."""

TYPE_CHARACTERS = 200
MESSAGE_CHARACTERS = 2000
TRACEBACK_CHARACTERS = 8000
_FRAMES = 100
_HEAD_CHARACTERS = 2000
_CUT = "\n  ...\n"

_FILE_LIMITS = {errno.EFBIG, errno.ENOSPC, errno.EDQUOT}


def failure_code(raised: BaseException) -> str:
    """The word for how code failed that raised this."""
    if issubclass(type(raised), MemoryError):
        return "MEMORY_LIMIT"
    if not issubclass(type(raised), OSError):
        return "CODE_ERROR"
    # What the interpreter keeps, whatever the class or its author makes of that.
    number = OSError.__dict__["errno"].__get__(raised)
    if type(number) is not int:
        return "CODE_ERROR"
    if number == errno.ENOMEM:
        return "MEMORY_LIMIT"
    return "FILE_LIMIT" if number in _FILE_LIMITS else "CODE_ERROR"


def described(raised: BaseException) -> dict[str, Any]:
    """Type, message, line and traceback of it. Raises whatever a hostile exception makes it to."""
    summary = traceback.TracebackException.from_exception(raised, limit=-_FRAMES)
    _keep_own_lines(summary)
    message = raised.msg if isinstance(raised, SyntaxError) else _message(raised)
    return {
        "type": type_name(raised),
        "message": _text(message)[:MESSAGE_CHARACTERS],
        "line": line_of(raised),
        "traceback": _bounded(_text("".join(summary.format()))),
    }


def type_name(raised: BaseException) -> str:
    """The name of its class, whatever a metaclass says of that."""
    return _text(type.__dict__["__name__"].__get__(type(raised)))[:TYPE_CHARACTERS]


def line_of(raised: BaseException) -> int | None:
    """The line of the code where it happened; None when it was none of it."""
    lines = [line for line, name in _places(raised.__traceback__) if name == STEP]
    if lines:
        return lines[-1]
    if isinstance(raised, SyntaxError) and raised.filename == STEP:
        return raised.lineno
    return None


def _places(start: TracebackType | None) -> deque[tuple[int, str]]:
    """Line and file of the innermost frames."""
    found: deque[tuple[int, str]] = deque(maxlen=_FRAMES)
    while start is not None:
        found.append((start.tb_lineno, start.tb_frame.f_code.co_filename))
        start = start.tb_next
    return found


def _keep_own_lines(summary: traceback.TracebackException) -> None:
    """Leave out the frames of the guest and of libraries, in all that hangs on it too."""
    seen: set[int] = set()
    waiting: list[traceback.TracebackException | None] = [summary]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.stack[:] = [frame for frame in each.stack if frame.filename == STEP]
        waiting += [each.__cause__, each.__context__]
        waiting += getattr(each, "exceptions", None) or ()


def _message(raised: BaseException) -> str:
    try:
        return str(raised)
    except BaseException:  # noqa: BLE001 - whatever its author thought of
        return "<no text: its __str__ failed>"


def _text(given: Any) -> str:
    """Text that can be written as UTF-8."""
    return str(given).encode("utf-8", "backslashreplace").decode()


def _bounded(text: str) -> str:
    """Both ends of it: where it begins, and what it was in the end."""
    if len(text) <= TRACEBACK_CHARACTERS:
        return text
    rest = TRACEBACK_CHARACTERS - _HEAD_CHARACTERS - len(_CUT)
    return text[:_HEAD_CHARACTERS] + _CUT + text[-rest:]
