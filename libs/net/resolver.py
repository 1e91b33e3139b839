"""Names to addresses, by the system's resolver."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from libs.net.hosts import IpAddress
from libs.net.refusals import ExchangeFailed, ExchangeFault

MAX_LOOKUPS = 64


class Resolver(Protocol):
    """Finds the addresses of a name."""

    async def resolve(self, name: str) -> Sequence[IpAddress]:
        """All addresses of the ASCII name, at least one. ExchangeFailed(DNS) when there is none."""
        ...


class SystemResolver:
    """Asks getaddrinfo, in threads of its own.

    It cannot be stopped: a lookup that hangs keeps its thread, but holds up neither other work that
    is done in threads nor the end of the process. At most `max_lookups` are under way.
    """

    def __init__(self, *, max_lookups: int = MAX_LOOKUPS) -> None:
        self._turns = asyncio.Semaphore(max_lookups)

    async def resolve(self, name: str) -> Sequence[IpAddress]:
        """Look the name up."""
        await self._turns.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[IpAddress] | socket.gaierror | OSError] = (
            loop.create_future()
        )

        def end(found: Sequence[IpAddress] | OSError) -> None:
            self._turns.release()
            if not answer.done():
                answer.set_result(found)

        def work() -> None:
            found = _look_up(name)
            # The loop may have ended while the lookup hung.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(end, found)

        threading.Thread(target=work, name="pawl-resolver", daemon=True).start()
        found = await answer
        if isinstance(found, OSError):
            raise ExchangeFailed(
                ExchangeFault.DNS, f"the name {name} cannot be resolved: {found.strerror or found}"
            ) from found
        return found


def _look_up(name: str) -> Sequence[IpAddress] | OSError:
    try:
        # As bytes: a str would pass a codec that knows another IDNA than the reader of hosts.
        rows = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    found = dict.fromkeys(ipaddress.ip_address(row[4][0]) for row in rows)
    return tuple(found)
