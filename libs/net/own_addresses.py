"""Which addresses this machine itself has."""

from __future__ import annotations

import ipaddress
import socket

from libs.net.hosts import IpAddress

_ANY_PORT = 9


def is_own(address: IpAddress) -> bool:
    """Whether what is sent to `address` stays on this machine. Sends nothing.

    The kernel gives such a connection its own target as its source.
    """
    family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), _ANY_PORT))
            return ipaddress.ip_address(probe.getsockname()[0]) == address
    except OSError:
        # No way leads there: a connection will say so itself.
        return False
