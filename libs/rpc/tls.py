"""The certificates of one process: who it is to the others, and whom it believes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from libs.process.env import ConfigError, Env

CA_FILE = "PAWL_TLS_CA_FILE"
CERT_FILE = "PAWL_TLS_CERT_FILE"
KEY_FILE = "PAWL_TLS_KEY_FILE"

NAMES_KEY = "x509_subject_alternative_name"
"""Under which gRPC tells a server the names in the certificate of the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: the authority that signs for all services, this process's certificate and key."""

    ca: Path
    certificate: Path
    key: Path


def read_tls(env: Env) -> TlsFiles | None:
    """The three files; None when none of them is named. One or two of them is a mistake."""
    if not any(env.optional_text(name) for name in (CA_FILE, CERT_FILE, KEY_FILE)):
        return None
    return TlsFiles(ca=env.path(CA_FILE), certificate=env.path(CERT_FILE), key=env.path(KEY_FILE))


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """For a port that takes only those who show a certificate of the authority.

    ConfigError for files that cannot be read or do not belong together.
    """
    ca, certificate, key = _contents(files)
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=ca, require_client_auth=True
    )


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """For a channel that shows this process's certificate and believes the authority only.

    ConfigError for files that cannot be read or do not belong together.
    """
    ca, certificate, key = _contents(files)
    return grpc.ssl_channel_credentials(
        root_certificates=ca, private_key=key, certificate_chain=certificate
    )


def _contents(files: TlsFiles) -> tuple[bytes, bytes, bytes]:
    """What is in the files. gRPC itself would say of a wrong one that a handshake failed."""
    for setting, path in (
        (CA_FILE, files.ca),
        (CERT_FILE, files.certificate),
        (KEY_FILE, files.key),
    ):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(files.ca)
    except ssl.SSLError as error:
        raise ConfigError(f"{CA_FILE}: {files.ca} is no PEM certificate") from error
    try:
        context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{CERT_FILE}, {KEY_FILE}: {files.certificate} and {files.key} are no PEM certificate "
            f"and the key that belongs to it ({error.reason or error})"
        ) from error
    return files.ca.read_bytes(), files.certificate.read_bytes(), files.key.read_bytes()
