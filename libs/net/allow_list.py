"""What an operator allows beyond public addresses on the ports 80 and 443.

The text is a list with commas of

- `host` or `host:port`: this name, also when it leads to a private or loopback address;
- an address or a network, `10.0.0.5:8080`, `10.0.0.0/8`, `[fd00::1]:8080`, `[fd00::/8]:8080`:
  whatever leads there, of any kind;
- `loopback`: the name localhost and all loopback addresses;
- `*:port`: one more port on public addresses.

Without a port an entry allows every port.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from libs.net.address_rules import IpNetwork, carried, special
from libs.net.hosts import Host, IpAddress, read_host
from libs.net.refusals import EgressDenied
from libs.net.urls import DEFAULT_PORTS, read_port, split_port

MAX_ENTRIES = 1000
LOOPBACK = "loopback"
ANYWHERE = "*"

_LOOPBACK_NETWORKS = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))


@dataclass(frozen=True, slots=True)
class _Port:
    """A port, or every port."""

    number: int | None

    def admits(self, port: int) -> bool:
        return self.number is None or self.number == port


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """An operator's list. The empty one allows nothing beyond the public network."""

    names: tuple[tuple[str, _Port], ...] = ()
    networks: tuple[tuple[IpNetwork, _Port], ...] = ()
    ports: frozenset[int] = frozenset(DEFAULT_PORTS.values())

    def has_name(self, host: Host, port: int) -> bool:
        """Whether the host is listed by its name, with this port."""
        return any(name == host.text and known.admits(port) for name, known in self.names)

    def has_address(self, address: IpAddress, port: int) -> bool:
        """Whether the address is listed with this port. One that carries an IPv4 address is only
        when that one is public or listed in turn.
        """
        listed = any(address in network and known.admits(port) for network, known in self.networks)
        inner = carried(address)
        if not listed or inner is None:
            return listed
        return special(inner) is None or self.has_address(inner, port)

    def may_list(self, port: int) -> bool:
        """Whether any address is listed with this port."""
        return any(known.admits(port) for _, known in self.networks)


NOTHING_MORE = AllowList()


def read_allow_list(text: str) -> AllowList:
    """The list that `text` spells. Raises ValueError, which names the first bad entry."""
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"it has {len(entries)} entries; {MAX_ENTRIES} are allowed")
    names: list[tuple[str, _Port]] = []
    networks: list[tuple[IpNetwork, _Port]] = []
    ports = set(DEFAULT_PORTS.values())
    for entry in entries:
        try:
            place, port = _split(entry)
            if place == ANYWHERE:
                ports.add(_certain(port))
            elif place.lower() == LOOPBACK:
                names.append(("localhost", port))
                networks.extend((network, port) for network in _LOOPBACK_NETWORKS)
            else:
                found = _network_or_name(place)
                if isinstance(found, str):
                    names.append((found, port))
                else:
                    networks.append((found, port))
        except (EgressDenied, ValueError) as error:
            raise ValueError(
                f"{entry[:80]!a}: {error}; allowed are host, host:port, an address or a "
                "network such as 10.0.0.0/8, loopback, *:port"
            ) from error
    return AllowList(names=tuple(names), networks=tuple(networks), ports=frozenset(ports))


def _split(entry: str) -> tuple[str, _Port]:
    try:
        return str(ipaddress.ip_network(entry)), _Port(None)
    except ValueError:
        place, port = split_port(entry)
        return place, _Port(None if port is None else read_port(port))


def _certain(port: _Port) -> int:
    if port.number is None:
        raise ValueError("a port is missing")
    return port.number


def _network_or_name(place: str) -> IpNetwork | str:
    if "/" in place:
        return ipaddress.ip_network(place.removeprefix("[").removesuffix("]"))
    host = read_host(place)
    return host.text if host.address is None else ipaddress.ip_network(host.address)
