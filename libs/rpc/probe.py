"""Whether the process of this container serves: `python -m libs.rpc.probe`, for a health check.

Reads the settings of the process itself: PAWL_LISTEN and PAWL_TLS_* of a service, PAWL_HTTP_LISTEN
of the gateway. Exit code 0: it serves; 1: it does not, and why; 2: the settings are wrong.
"""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Mapping
from typing import Any

import grpc
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from libs.process.env import EXIT_BAD_CONFIG, EXIT_FAILED, EXIT_STOPPED, ConfigError, Env
from libs.rpc.tls import TlsFiles, channel_credentials, read_tls

SECONDS = 3.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - not bound, only read


class NotServing(Exception):  # noqa: N818 - what was found
    """The process does not serve; the message says why."""


def check(environ: Mapping[str, str]) -> None:
    """NotServing unless the process with these settings serves; ConfigError for bad settings."""
    env = Env(environ)
    if env.optional_text("PAWL_HTTP_LISTEN"):
        address = env.address("PAWL_HTTP_LISTEN")
        env.check()
        _check_http(_near(address))
        return
    address, tls = env.address("PAWL_LISTEN"), read_tls(env)
    env.check()
    _check_grpc(_near(address), tls)


def main() -> int:
    """Check, and say what is wrong; an exit code."""
    try:
        check(os.environ)
    except NotServing as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return EXIT_FAILED
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return EXIT_BAD_CONFIG
    return EXIT_STOPPED


def _check_grpc(address: str, tls: TlsFiles | None) -> None:
    if tls is None:
        channel = grpc.insecure_channel(address)
    else:
        options = (("grpc.ssl_target_name_override", own_name(tls)),)
        channel = grpc.secure_channel(address, channel_credentials(tls), options)
    with channel:
        try:
            request = health_pb2.HealthCheckRequest()
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(request, timeout=SECONDS)
        except grpc.RpcError as error:
            said = error.details() if isinstance(error, grpc.Call) else error
            raise NotServing(f"{address}: {said}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise NotServing(f"{address}: {status}")


def _check_http(address: str) -> None:
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotServing(f"{address}: {error}") from error
    finally:
        connection.close()
    if status != http.client.OK:
        raise NotServing(f"{address}: HTTP {status}")


def own_name(tls: TlsFiles) -> str:
    """The DNS name in this process's own certificate; ConfigError when it has none."""
    try:
        certificate = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return extension.value.get_values_for_type(x509.DNSName)[0]
    except (OSError, ValueError, IndexError, x509.ExtensionNotFound) as error:
        raise ConfigError(f"{tls.certificate} is no certificate with a DNS name") from error


def _near(address: str) -> str:
    """The address at which a listener on every interface is reached from here."""
    host, _, port = address.rpartition(":")
    return f"{_EVERYWHERE.get(host, host)}:{port}"


if __name__ == "__main__":
    sys.exit(main())
