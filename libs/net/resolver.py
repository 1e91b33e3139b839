"""Names to addresses, by the system's resolver."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import Protocol

from libs.net.hosts import IpAddress
from libs.net.refusals import ExchangeFailed, ExchangeFault
from libs.process.logs import get_logger
from libs.process.turns import FairTurns

MAX_LOOKUPS = 64
MAX_LOOKUPS_EACH = 16
"""Of one asker: a name server that does not answer holds up nobody else's requests."""

log = get_logger(__name__)


class Resolver(Protocol):
    """Finds the addresses of a name."""

    async def resolve(self, name: str, *, asker: Hashable = None) -> Sequence[IpAddress]:
        """All addresses of the ASCII name, at least one. ExchangeFailed(DNS) when there is none.

        `asker` is for whom the name is looked up: whose lookups count together.
        """
        ...


class SystemResolver:
    """Asks getaddrinfo, in threads of its own.

    It cannot be stopped: a lookup that hangs keeps its thread, but holds up neither other work that
    is done in threads nor the end of the process. At most `max_lookups` are under way, `max_each`
    of one asker; one that was given up counts until it has ended.
    """

    def __init__(self, *, max_lookups: int = MAX_LOOKUPS, max_each: int = MAX_LOOKUPS_EACH) -> None:
        self._turns = FairTurns(max_lookups, most_each=max_each)

    async def resolve(self, name: str, *, asker: Hashable = None) -> Sequence[IpAddress]:
        """Look the name up."""
        await self._turns.take(asker)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[IpAddress] | socket.gaierror | OSError] = (
            loop.create_future()
        )

        def end(found: Sequence[IpAddress] | OSError) -> None:
            self._turns.give_back(asker)
            if not answer.done():
                answer.set_result(found)

        def work() -> None:
            found = _look_up(name)
            # The loop may have ended while the lookup hung.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(end, found)

        try:
            threading.Thread(target=work, name="pawl-resolver", daemon=True).start()
        except RuntimeError as error:
            self._turns.give_back(asker)
            log.error("no thread for a lookup", error=str(error))  # noqa: TRY400 - it says it all
            raise ExchangeFailed(
                ExchangeFault.DNS, f"the name {name} cannot be looked up now"
            ) from error
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
        return tuple(dict.fromkeys(ipaddress.ip_address(row[4][0]) for row in rows))
    except OSError as error:
        return error
    except Exception as error:  # noqa: BLE001 - else whoever waits would do so for ever
        log.error("a lookup failed unexpectedly", kind=type(error).__name__)  # noqa: TRY400
        return OSError("the lookup failed unexpectedly")
