"""The certificates of one process: who it is to the others, and whom it believes.

Both sides of every connection show one that the installation's authority signed. Its DNS name is
the service's name, whatever host it runs on: a client compares it with the service that it calls,
a server with the service whose token the call carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from libs.process.env import ConfigError, Env

CA_FILE = "PAWL_TLS_CA_FILE"
CERT_FILE = "PAWL_TLS_CERT_FILE"
KEY_FILE = "PAWL_TLS_KEY_FILE"

NAMES_KEY = "peer_dns"
"""Under which gRPC tells a server the DNS names in the certificate of the other side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: the authority that signs for all services, this process's certificate and key."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the three files hold, checked; `names` are the certificate's DNS names."""

    ca: bytes
    certificate: bytes
    key: bytes
    names: tuple[str, ...]


def read_tls(env: Env) -> TlsFiles | None:
    """The three files; None when none of them is named. One or two of them is a mistake."""
    if not any(env.optional_text(name) for name in (CA_FILE, CERT_FILE, KEY_FILE)):
        return None
    return TlsFiles(ca=env.path(CA_FILE), certificate=env.path(CERT_FILE), key=env.path(KEY_FILE))


def load_identity(files: TlsFiles, *, service: str | None = None) -> Identity:
    """Read the files. ConfigError names the setting and the file that do not work, and why.

    With `service`, the certificate must be that of this service.
    """
    ca, own = _read(CA_FILE, files.ca), _read(CERT_FILE, files.certificate)
    key = _read(KEY_FILE, files.key)
    _certificates(CA_FILE, files.ca, ca)
    certificate = _certificates(CERT_FILE, files.certificate, own)[0]
    _check_key(files, key, certificate)
    _check_time(files, certificate)
    names = dns_names(certificate)
    if service is not None and service not in names:
        raise ConfigError(
            f"{CERT_FILE}: {files.certificate} is for {', '.join(names) or 'no name'}; "
            f"a certificate with the DNS name {service} is allowed"
        )
    return Identity(ca=ca, certificate=own, key=key, names=names)


def server_credentials(files: TlsFiles, *, service: str | None = None) -> grpc.ServerCredentials:
    """For a port that takes only those who show a certificate of the authority.

    ConfigError as for `load_identity`.
    """
    identity = load_identity(files, service=service)
    return grpc.ssl_server_credentials(
        [(identity.key, identity.certificate)],
        root_certificates=identity.ca,
        require_client_auth=True,
    )


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """For a channel that shows this process's certificate and believes the authority only.

    ConfigError as for `load_identity`.
    """
    identity = load_identity(files)
    return grpc.ssl_channel_credentials(
        root_certificates=identity.ca,
        private_key=identity.key,
        certificate_chain=identity.certificate,
    )


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(found.value.get_values_for_type(x509.DNSName))


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}") from error


def _certificates(setting: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigError(f"{setting}: {path} holds no PEM certificate") from error


def _check_key(files: TlsFiles, pem: bytes, certificate: x509.Certificate) -> None:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        message = f"{KEY_FILE}: {files.key} holds no PEM private key that needs no password"
        raise ConfigError(message) from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise ConfigError(
            f"{KEY_FILE}: {files.key} is not the key of {files.certificate} ({CERT_FILE})"
        )


def _check_time(files: TlsFiles, certificate: x509.Certificate) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= datetime.now(UTC) <= end:
        raise ConfigError(
            f"{CERT_FILE}: {files.certificate} is valid from {begin:%Y-%m-%dT%H:%M:%SZ} "
            f"to {end:%Y-%m-%dT%H:%M:%SZ}, not now"
        )
