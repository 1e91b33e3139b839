"""Certificates for development: an authority and one certificate per service.

`python -m libs.rpc.certs DIRECTORY`. A production installation has an authority of its own; what
counts is only that a service's certificate carries its name as DNS name, and that all are signed by
the authority that all are told of.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from libs.rpc.tokens import SERVICES

CLIENT = "client"
"""The certificate of people and programs that call services directly."""

NAMES = (*SERVICES, CLIENT)
VALID_DAYS = 825
RENEW_DAYS = 30
_BEFORE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeCertificate:
    """A certificate, until when it is valid, and whether it was made now or was there."""

    name: str
    valid_until: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_certificates(
    directory: Path,
    names: Iterable[str] = NAMES,
    *,
    now: datetime | None = None,
    valid_days: int = VALID_DAYS,
) -> list[MadeCertificate]:
    """Make `ca.crt`, `ca.key` and for each name `<name>.crt`, `<name>.key`; the authority first.

    What is there, whole, signed by this authority and valid for another 30 days is kept. Keys are
    readable by their owner only.
    """
    at = now or datetime.now(UTC)
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    ca = _kept(directory, "ca", issuer=None, at=at)
    is_new = ca is None
    if ca is None:
        ca = _authority(at=at, valid_days=valid_days)
        _write(directory, "ca", ca)
    made = [_report("ca", ca, is_new=is_new)]
    for name in names:
        pair = _kept(directory, name, issuer=ca, at=at)
        is_new = pair is None
        if pair is None:
            pair = _signed(name, ca, at=at, valid_days=valid_days)
            _write(directory, name, pair)
        made.append(_report(name, pair, is_new=is_new))
    return made


def _report(name: str, pair: _Pair, *, is_new: bool) -> MadeCertificate:
    return MadeCertificate(
        name=name, valid_until=pair.certificate.not_valid_after_utc, is_new=is_new
    )


def _authority(*, at: datetime, valid_days: int) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pawl development authority")])
    builder = _builder(name, name, key, at=at, valid_days=valid_days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _signed(name: str, ca: _Pair, *, at: datetime, valid_days: int) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, ca.certificate.subject, key, at=at, valid_days=valid_days)
    # Its own name alone: callers check that one, whatever address they reach the service at.
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(names, critical=False).add_extension(both, critical=False)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(signs=False), critical=True)
    return _Pair(builder.sign(ca.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    at: datetime,
    valid_days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _BEFORE)
        .not_valid_after(at + timedelta(days=valid_days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _kept(directory: Path, name: str, *, issuer: _Pair | None, at: datetime) -> _Pair | None:
    """What is there, when it is whole, signed as it should be and valid for long enough."""
    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())
        key = serialization.load_pem_private_key((directory / f"{name}.key").read_bytes(), None)
        certificate.verify_directly_issued_by(issuer.certificate if issuer else certificate)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    belongs = certificate.public_key() == key.public_key()
    lasts = certificate.not_valid_after_utc >= at + timedelta(days=RENEW_DAYS)
    return _Pair(certificate, key) if belongs and lasts else None


def _write(directory: Path, name: str, pair: _Pair) -> None:
    """The key first: a certificate without its key is taken for nothing."""
    key = pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _replace(directory / f"{name}.key", key, mode=0o600)
    certificate = pair.certificate.public_bytes(serialization.Encoding.PEM)
    _replace(directory / f"{name}.crt", certificate, mode=0o644)


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main(arguments: list[str]) -> int:
    """Make them and say so; 0, or 2 for other arguments."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m libs.rpc.certs DIRECTORY", file=sys.stderr)  # noqa: T201 - a command
        return 2
    directory = Path(arguments[0])
    for one in make_certificates(directory):
        what = "made" if one.is_new else "kept"
        print(f"{one.name:12} {what}  valid until {one.valid_until:%Y-%m-%d}")  # noqa: T201
    print(f"in {directory}; pawl up speaks mTLS with PAWL_TLS_DIR={directory}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
