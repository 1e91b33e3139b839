"""Which start of this executor holds its leases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Boot:
    """The id of this start; a new one when the scheduler has ended the old one."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self.id = new_id()
        self.changed = asyncio.Event()
        """Set with each new id, cleared by who has told it on."""

    def again(self) -> None:
        """Go on as a new start."""
        self.id = self._new_id()
        self.changed.set()
