"""The certificates of one process: who it is to the others, and whom it believes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from libs.process.env import Env

CA_FILE = "PAWL_TLS_CA_FILE"
CERT_FILE = "PAWL_TLS_CERT_FILE"
KEY_FILE = "PAWL_TLS_KEY_FILE"


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
