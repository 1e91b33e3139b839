"""Telling a process apart from a later one with the same id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_START_TIME_FIELD = 22
_STATE_FIELD = 3
_ENDED = {"Z", "X"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """A process id with the start time of the process, in clock ticks since the machine started."""

    pid: int
    started: int

    def lives(self) -> bool:
        """Whether this very process still runs; one whose end nobody took note of does not."""
        return mark_of(self.pid) == self


def mark_of(pid: int) -> ProcessMark | None:
    """The mark of a running process, None when there is none with this id."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses, and may itself hold blanks and those.
    fields = text.rpartition(")")[2].split()
    if fields[_STATE_FIELD - 3] in _ENDED:
        return None
    return ProcessMark(pid=pid, started=int(fields[_START_TIME_FIELD - 3]))


def environment_of(pid: int) -> dict[str, str]:
    """What the process was started with; empty when it has ended or is another user's."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition("=") for item in content.decode("utf-8", "replace").split("\0"))
    return {name: value for name, separator, value in pairs if separator}
