"""Who looks at the queue when a limit on running tasks may have room again."""

from __future__ import annotations

from collections.abc import Callable


class LimitWatch:
    """Whether tasks wait that only the end of others can let in, and who looks then."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._is_limited = False
        self.ends = 0
        """How often tasks have ended; read it before a claim."""

    def task_ended(self) -> None:
        """Tasks have ended, here or elsewhere."""
        self.ends += 1
        if self._is_limited:
            self._is_limited = False
            self._look()

    def limited(self, *, ends_before: int) -> bool:
        """Note that a claim was limited; whether it has to be repeated: tasks ended meanwhile."""
        self._is_limited = self.ends == ends_before
        return not self._is_limited
