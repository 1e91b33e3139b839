"""Connections to judged addresses only: the rules at the moment of connecting.

A name can lead elsewhere a moment later, so it is resolved once, every address is judged, and the
connection goes to one of exactly these. Name and Host header stay what they were, so that TLS
checks the certificate of the name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import httpcore2

from libs.net.egress_rules import EgressRules
from libs.net.hosts import Host, IpAddress, read_host
from libs.net.own_addresses import is_own
from libs.net.refusals import ExchangeFailed, ExchangeFault
from libs.net.resolver import Resolver

MAX_DIALS = 6
"""Addresses of one name that are tried, one after the other, until one accepts."""


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """The network of one request. `aclose` ends whatever it has opened.

    `network` opens connections to addresses; names never reach it. `asker` is who the request is
    for.
    """

    def __init__(
        self,
        rules: EgressRules,
        *,
        resolver: Resolver,
        network: httpcore2.AsyncNetworkBackend,
        owns: Callable[[IpAddress], bool] = is_own,
        asker: Hashable = None,
    ) -> None:
        self._rules = rules
        self._resolver = resolver
        self._asker = asker
        self._network = network
        self._owns = owns
        self._opened: list[httpcore2.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, judge, connect; `timeout` is for all of it, in seconds.

        Raises EgressDenied; ExchangeFailed(DNS, CONNECT, CONNECT_TIMEOUT).
        """
        del local_address
        # An IPv6 address comes without its brackets.
        wanted = read_host(f"[{host}]" if ":" in host else host)
        self._rules.check_host(wanted, port)
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._judged(wanted, port)
                stream = await self._dial(wanted, port, addresses, options=socket_options)
        except TimeoutError as error:
            raise ExchangeFailed(
                ExchangeFault.CONNECT_TIMEOUT, f"no connection to {wanted} within {timeout:g} s"
            ) from error
        self._opened.append(stream)
        return stream

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Never: a path is no host."""
        raise NotImplementedError("a path of this machine is not reached by egress")

    async def sleep(self, seconds: float) -> None:
        """Never: only a retry would."""
        raise NotImplementedError("nothing is tried again")

    async def aclose(self) -> None:
        """Close every connection, also those that were left while TLS began."""
        while self._opened:
            await self._opened.pop().aclose()

    async def _judged(self, host: Host, port: int) -> Sequence[IpAddress]:
        if host.address is not None:
            addresses: Sequence[IpAddress] = (host.address,)
        else:
            addresses = await self._resolver.resolve(host.text, asker=self._asker)
        own = {address for address in addresses if self._owns(address)}
        self._rules.check_addresses(host, port, addresses, own=own)
        return addresses

    async def _dial(
        self, host: Host, port: int, addresses: Sequence[IpAddress], *, options: Any
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to the first address that accepts. Nothing was sent to those before it."""
        last: httpcore2.ConnectError | httpcore2.ConnectTimeout | None = None
        for address in addresses[:MAX_DIALS]:
            try:
                return await self._network.connect_tcp(str(address), port, socket_options=options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
        raise ExchangeFailed(
            ExchangeFault.CONNECT, f"{host} accepts no connection on port {port}"
        ) from last
