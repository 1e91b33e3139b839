"""Ports for the services: the same as last time where they are free."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping

from libs.process.env import ConfigError

HOST = "127.0.0.1"
DEFAULT_HTTP_PORT = 8080
# Below the range from which the kernel gives ports to outgoing connections: a service that is
# restarted must find its port free.
_OWN_RANGE = range(21000, 31000)
_RANDOM = random.SystemRandom()


def choose_ports(names: Iterable[str], *, before: Mapping[str, int]) -> dict[str, int]:
    """A free port for each name: the one it had before, else a new one."""
    chosen: dict[str, int] = {}
    # In no order: another Pawl may be choosing its ports at this moment.
    candidates = iter(_RANDOM.sample(_OWN_RANGE, len(_OWN_RANGE)))
    for name in names:
        port = before.get(name)
        if port is None or port in chosen.values() or not is_free(port):
            taken = {*chosen.values(), *before.values()}
            port = next((p for p in candidates if p not in taken and is_free(p)), None)
        if port is None:
            raise ConfigError(f"no free port from {_OWN_RANGE.start} to {_OWN_RANGE.stop}")
        chosen[name] = port
    return chosen


def choose_http_port(wanted: int | None, *, before: int | None) -> int:
    """The port of the REST API: the wanted one or an error; else as before, else 8080, else any.

    With 0 any free port is meant, 8080 as little as another.
    """
    if wanted:
        if not is_free(wanted):
            raise ConfigError(f"port {wanted} is in use: choose another with --port")
        return wanted
    usual = [before, None if wanted == 0 else DEFAULT_HTTP_PORT]
    free = next((port for port in usual if port is not None and is_free(port)), None)
    return choose_ports(["http"], before={})["http"] if free is None else free


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do it: connections of the last one that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True
