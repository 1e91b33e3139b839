"""Certificates for development: an authority and one certificate per service.

`python -m libs.rpc.certs DIRECTORY [--days N] [--extra NAME …]`. A production installation has an
authority of its own; what counts is only that a service's certificate carries its name as DNS name,
and that all are signed by the authority that all are told of.
"""

from __future__ import annotations

import argparse
import re
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

from libs.process.env import EXIT_BAD_CONFIG, ConfigError
from libs.process.files import write_atomically
from libs.rpc.tls import dns_names
from libs.rpc.tokens import SERVICES

CA = "ca"
CLIENT = "client"
"""The certificate of people and programs that call services directly."""

NAMES = (*SERVICES, CLIENT)
VALID_DAYS = 825
MAX_DAYS = 3650
RENEW_DAYS = 30
_BEFORE = timedelta(minutes=5)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


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


@dataclass(frozen=True, slots=True)
class _Authority:
    """`key` None: somebody put it out of reach, so that nothing more can be signed."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None


def make_certificates(
    directory: Path,
    names: Iterable[str] = NAMES,
    *,
    now: datetime | None = None,
    valid_days: int = VALID_DAYS,
) -> list[MadeCertificate]:
    """Make `ca.crt`, `ca.key` and for each name `<name>.crt`, `<name>.key`; the authority first.

    What is there, whole, signed by this authority and valid for another 30 days is kept. Keys are
    readable by their owner only. ConfigError for a name that is no DNS label, and when the
    authority's key is needed and not there; OSError for a directory that does not allow it.
    """
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        _check_name(name)
    at = now or datetime.now(UTC)
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    ca = _kept_authority(directory, at=at)
    is_new = ca is None
    if ca is None:
        pair = _make_authority(at=at, valid_days=valid_days)
        _write(directory, CA, pair)
        ca = _Authority(pair.certificate, pair.key)
    made = [_report(CA, ca.certificate, is_new=is_new)]
    for name in wanted:
        certificate = _kept(directory, name, issuer=ca.certificate, at=at)
        is_new = certificate is None
        if certificate is None:
            certificate = _make(directory, name, ca, at=at, valid_days=valid_days)
        made.append(_report(name, certificate, is_new=is_new))
    return made


def _check_name(name: str) -> None:
    if name == CA or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be a certificate's name; "
            f"1 to 63 of a-z, 0-9 and - are allowed, except {CA!r}"
        )


def _report(name: str, certificate: x509.Certificate, *, is_new: bool) -> MadeCertificate:
    return MadeCertificate(name=name, valid_until=certificate.not_valid_after_utc, is_new=is_new)


def _kept_authority(directory: Path, *, at: datetime) -> _Authority | None:
    certificate = _read_certificate(directory / f"{CA}.crt")
    if certificate is None or not _lasts(certificate, at=at):
        return None
    key = _read_key(directory / f"{CA}.key")
    if key is not None and key.public_key() != certificate.public_key():
        raise ConfigError(
            f"{directory / CA}.key is not the key of {CA}.crt; remove both for a new authority"
        )
    return _Authority(certificate, key)


def _make(
    directory: Path, name: str, ca: _Authority, *, at: datetime, valid_days: int
) -> x509.Certificate:
    if ca.key is None:
        raise ConfigError(
            f"{directory / CA}.key is needed to make {name}.crt and is not there; "
            f"put it back, or remove {CA}.crt for a new authority"
        )
    pair = _signed(name, _Pair(ca.certificate, ca.key), at=at, valid_days=valid_days)
    _write(directory, name, pair)
    return pair.certificate


def _make_authority(*, at: datetime, valid_days: int) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pawl development authority")])
    until = at + timedelta(days=max(valid_days, MAX_DAYS))
    builder = _builder(name, name, key, at=at, until=until)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _signed(name: str, ca: _Pair, *, at: datetime, valid_days: int) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    until = min(at + timedelta(days=valid_days), ca.certificate.not_valid_after_utc)
    builder = _builder(subject, ca.certificate.subject, key, at=at, until=until)
    # Its own name alone: callers check that one, whatever address they reach the service at.
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(names, critical=False).add_extension(both, critical=False)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(signs=False), critical=True)
    # Strict verifiers, such as Python's own from 3.13 on, want to be told the signer's key.
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = builder.add_extension(signer, critical=False)
    return _Pair(builder.sign(ca.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    at: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _BEFORE)
        .not_valid_after(until)
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


def _kept(
    directory: Path, name: str, *, issuer: x509.Certificate, at: datetime
) -> x509.Certificate | None:
    """What is there, when it is whole, signed as it should be and valid for long enough."""
    certificate = _read_certificate(directory / f"{name}.crt")
    key = _read_key(directory / f"{name}.key")
    if certificate is None or key is None or dns_names(certificate) != (name,):
        return None
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return None
    belongs = certificate.public_key() == key.public_key()
    return certificate if belongs and _lasts(certificate, at=at) else None


def _lasts(certificate: x509.Certificate, *, at: datetime) -> bool:
    return certificate.not_valid_after_utc >= at + timedelta(days=RENEW_DAYS)


def _read_certificate(path: Path) -> x509.Certificate | None:
    """None when it is not there or is none: it is then made anew."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    """None when it is not there or is none. One that others could read is closed again."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _write(directory: Path, name: str, pair: _Pair) -> None:
    """The key first: a certificate without its key is taken for nothing."""
    key = pair.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_atomically(directory / f"{name}.key", key, mode=0o600)
    certificate = pair.certificate.public_bytes(serialization.Encoding.PEM)
    write_atomically(directory / f"{name}.crt", certificate, mode=0o644)


def main(arguments: list[str]) -> int:
    """Make them and say so; 0, or 2 for what cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m libs.rpc.certs")
    parser.add_argument("directory", metavar="DIRECTORY", type=Path)
    parser.add_argument("--days", metavar="N", type=int, default=VALID_DAYS)
    parser.add_argument("--extra", metavar="NAME", nargs="+", action="extend", default=[])
    given = parser.parse_args(arguments)
    if not RENEW_DAYS < given.days <= MAX_DAYS:
        parser.error(f"--days is {given.days}; {RENEW_DAYS + 1} to {MAX_DAYS} are allowed")
    names = (*NAMES, *given.extra)
    try:
        made = make_certificates(given.directory, names, valid_days=given.days)
    except (ConfigError, OSError) as error:
        print(f"certs: {error}", file=sys.stderr)  # noqa: T201 - a command
        return EXIT_BAD_CONFIG
    for one in made:
        what = "made" if one.is_new else "kept"
        print(f"{one.name:12} {what}  valid until {one.valid_until:%Y-%m-%d}")  # noqa: T201
    print(f"in {given.directory}; pawl up speaks mTLS with PAWL_TLS_DIR={given.directory}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
