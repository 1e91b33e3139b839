"""Whether the process of this container serves: `python -m libs.rpc.probe`, for a HEALTHCHECK.

It reads the environment of the process that it asks about. Exit code 0: serving; 1: not, with one
line that says why.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from typing import Any

import grpc

from libs.process.env import EXIT_FAILED, EXIT_STOPPED, ConfigError, Env
from libs.rpc.tls import TlsFiles, channel_credentials, load_identity, read_tls

SECONDS = 2.5
"""For the answer; with the start of Python it stays within 3 s."""

# grpc.health.v1 without its generated code, which takes as long to import as the call to make:
# a request for "" is the empty message, an answer is field 1 with the value 1, SERVING.
_METHOD = "/grpc.health.v1.Health/Check"
_EVERYTHING = b""
_SERVING = b"\x08\x01"
_STATES = {b"": "UNKNOWN", b"\x08\x02": "NOT_SERVING", b"\x08\x03": "SERVICE_UNKNOWN"}

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - not to listen on


class NotServing(Exception):  # noqa: N818 - what was found
    """The process does not serve; the message says what was heard instead."""


def check(values: Mapping[str, str]) -> None:
    """Return when the process with this environment serves; NotServing or ConfigError if not."""
    env = Env(values)
    http = env.optional_text("PAWL_HTTP_LISTEN") is not None
    listen = env.address("PAWL_HTTP_LISTEN" if http else "PAWL_LISTEN")
    tls = read_tls(env)
    env.check()
    address = reachable(listen)
    if http:
        _ask_http(address)
    else:
        _ask_grpc(address, tls)


def reachable(listen: str) -> str:
    """Where to connect to reach what listens at `listen`: loopback for "every address"."""
    host, _, port = listen.rpartition(":")
    if port == "0":
        raise ConfigError(f"{listen} names no port to ask; a fixed one is needed")
    return f"{_WILDCARDS.get(host, host)}:{port}"


def _ask_grpc(address: str, tls: TlsFiles | None) -> None:
    with _channel(address, tls) as channel:
        ask: Any = channel.unary_unary(_METHOD)
        try:
            answer = ask(_EVERYTHING, timeout=SECONDS)
        except grpc.RpcError as error:
            raise NotServing(f"{address}: {error.code().name}: {error.details()}") from error
    if answer != _SERVING:
        raise NotServing(f"{address} says {_STATES.get(answer, repr(answer))}")


def _channel(address: str, tls: TlsFiles | None) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(address)
    names = load_identity(tls).names
    if not names:
        raise ConfigError(f"{tls.certificate} has no DNS name; that of its service is needed")
    options = (("grpc.ssl_target_name_override", names[0]),)
    return grpc.secure_channel(address, channel_credentials(tls), options=options)


def _ask_http(address: str) -> None:
    host, _, port = address.rpartition(":")
    request = f"GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    try:
        # Once for the connection, once for the answer, whose first packet has the status.
        half = SECONDS / 2
        with socket.create_connection((host.strip("[]"), int(port)), timeout=half) as connection:
            connection.sendall(request.encode())
            status_line = connection.recv(1000).decode("ascii", "replace").partition("\r\n")[0]
    except OSError as error:
        raise NotServing(f"{address}: {error}") from error
    if status_line.split(" ")[1:2] != ["200"]:
        raise NotServing(f"{address} answers {status_line or 'nothing'}")


def main() -> int:
    """The command line."""
    try:
        check(os.environ)
    except (NotServing, ConfigError) as error:
        print(f"not serving: {error}", file=sys.stderr)  # noqa: T201 - for docker inspect
        return EXIT_FAILED
    return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
