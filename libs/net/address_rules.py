"""Which addresses belong to nobody on the public network.

The tables follow IANA's registries of special-purpose addresses. Of IPv6 only what is given out for
the global network (2000::/3) is public, less the ranges within it that are not; every form that
carries an IPv4 address inside is refused, whichever it carries.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from libs.net.hosts import IpAddress

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Special:
    """A range that is not public. `is_internal`: a network of one's own may well use it."""

    network: IpNetwork
    what: str
    is_internal: bool = False


def _v4(network: str, what: str, *, is_internal: bool = False) -> Special:
    return Special(ipaddress.IPv4Network(network), what, is_internal)


def _v6(network: str, what: str, *, is_internal: bool = False) -> Special:
    return Special(ipaddress.IPv6Network(network), what, is_internal)


_METADATA = "an address of a cloud's metadata service"
_DOCUMENTATION = "an address for documentation"
_BENCHMARKS = "an address for benchmarks"
_CARRIER = "an IPv6 address that carries an IPv4 address"

# The first range that an address lies in speaks for it: single addresses stand before ranges.
_V4 = (
    _v4("168.63.129.16/32", _METADATA),
    _v4("100.100.100.200/32", _METADATA),
    _v4("192.0.0.192/32", _METADATA),
    _v4("0.0.0.0/8", "an address of this network (0.0.0.0/8)"),
    _v4("10.0.0.0/8", "a private address", is_internal=True),
    _v4("100.64.0.0/10", "a shared address of carriers (100.64.0.0/10)", is_internal=True),
    _v4("127.0.0.0/8", "a loopback address", is_internal=True),
    _v4("169.254.0.0/16", "a link-local address, where clouds have their metadata service"),
    _v4("172.16.0.0/12", "a private address", is_internal=True),
    _v4("192.0.0.0/24", "an address for protocol assignments"),
    _v4("192.0.2.0/24", _DOCUMENTATION),
    _v4("192.31.196.0/24", "an address of the AS112 service"),
    _v4("192.52.193.0/24", "an address for multicast tunnels"),
    _v4("192.88.99.0/24", "an address of 6to4 relays"),
    _v4("192.168.0.0/16", "a private address", is_internal=True),
    _v4("192.175.48.0/24", "an address of the AS112 service"),
    _v4("198.18.0.0/15", _BENCHMARKS),
    _v4("198.51.100.0/24", _DOCUMENTATION),
    _v4("203.0.113.0/24", _DOCUMENTATION),
    _v4("224.0.0.0/4", "a multicast address"),
    _v4("255.255.255.255/32", "the broadcast address"),
    _v4("240.0.0.0/4", "a reserved address"),
)
_V6 = (
    _v6("fd00:ec2::/32", _METADATA),
    _v6("fd20:ce::/32", _METADATA),
    _v6("::/128", "the unspecified address"),
    _v6("::1/128", "a loopback address", is_internal=True),
    _v6("::ffff:0:0/96", _CARRIER),
    _v6("::ffff:0:0:0/96", _CARRIER),
    _v6("::/96", _CARRIER),
    _v6("64:ff9b::/96", _CARRIER),
    _v6("64:ff9b:1::/48", _CARRIER),
    _v6("2002::/16", _CARRIER),
    _v6("2001::/32", _CARRIER),
    _v6("100::/64", "an address that discards"),
    _v6("fc00::/7", "a private (unique local) address", is_internal=True),
    _v6("fe80::/10", "a link-local address"),
    _v6("fec0::/10", "a site-local address"),
    _v6("ff00::/8", "a multicast address"),
    _v6("2001:2::/48", _BENCHMARKS),
    _v6("2001::/23", "an address for protocol assignments"),
    _v6("2001:db8::/32", _DOCUMENTATION),
    _v6("3fff::/20", _DOCUMENTATION),
    _v6("2620:4f:8000::/48", "an address of the AS112 service"),
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_UNASSIGNED = Special(ipaddress.IPv6Network("::/0"), "an address outside of 2000::/3")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_LAST_32_BITS = 2**32 - 1


def special(address: IpAddress) -> Special | None:
    """The range that keeps `address` from being public; None when it is public."""
    if isinstance(address, ipaddress.IPv4Address):
        return next((row for row in _V4 if address in row.network), None)
    found = next((row for row in _V6 if address in row.network), None)
    if found is None and address not in _GLOBAL_V6:
        return _UNASSIGNED
    return found


def carried(address: IpAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address to which a router or the kernel would translate `address`, if any."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _SIX_TO_FOUR:
        return address.sixtofour
    found = special(address)
    if found is None or found.what != _CARRIER:
        return None
    if address.teredo is not None:
        return address.teredo[1]
    return ipaddress.IPv4Address(int(address) & _LAST_32_BITS)
