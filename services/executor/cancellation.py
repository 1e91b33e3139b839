"""The wish that a task be cancelled, as those who run it see it."""

from __future__ import annotations

import asyncio


class Cancellation:
    """Whether a task is to be cancelled: asked for once, never taken back."""

    def __init__(self) -> None:
        self.asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once it is asked for; to be waited for beside other things, never cancelled."""

    @property
    def is_asked(self) -> bool:
        """Whether it was asked for."""
        return self.asked.done()

    def ask(self) -> None:
        """Ask for it; a second time changes nothing."""
        if not self.asked.done():
            self.asked.set_result(None)
