"""Certificates for tests: good ones, strangers' ones, and some that no longer hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from libs.rpc.certs import make_certificates
from libs.rpc.tls import TlsFiles


def files_of(directory: Path, name: str) -> TlsFiles:
    """The files of `name` in a directory of certificates."""
    return TlsFiles(
        ca=directory / "ca.crt",
        certificate=directory / f"{name}.crt",
        key=directory / f"{name}.key",
    )


def make_expired(directory: Path, name: str) -> None:
    """A certificate of the authority in `directory` that ended yesterday."""
    now = datetime.now(UTC)
    make_certificates(directory, [name], valid_days=31, now=now - timedelta(days=32))
