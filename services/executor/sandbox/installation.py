"""Which installation of Pawl something belongs to, where several share one engine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from libs.process.env import ConfigError

_DIGITS = 16


def installation_of(public_keys_file: Path) -> str:
    """A name for the installation whose public keys these are: 16 hex digits. ConfigError when the
    file cannot be read.
    """
    try:
        return hashlib.sha256(public_keys_file.read_bytes()).hexdigest()[:_DIGITS]
    except OSError as error:
        raise ConfigError(f"{public_keys_file} cannot be read: {error.strerror}") from error
