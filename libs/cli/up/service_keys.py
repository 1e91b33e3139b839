"""Whether the signing keys of the services are there and belong together."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def keys_are_whole(secrets_dir: Path, *, services: Iterable[str]) -> bool:
    """Whether every service has its key and all know its public half.

    New keys can always be made: what they sign lives for seconds. So whatever cannot be read, a
    file that a crash cut short for one, counts as missing.
    """
    try:
        listed = json.loads((secrets_dir / "public_keys.json").read_text(encoding="ascii"))
        public = {key["kid"]: key["x"] for key in listed["keys"]}
        return all(_has_half(secrets_dir, name, public[name]) for name in services)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _has_half(secrets_dir: Path, service: str, public_half: str) -> bool:
    key = json.loads((secrets_dir / f"service_{service}.jwk").read_text(encoding="ascii"))
    return bool(key["kid"] == service and key["x"] == public_half and key["d"])
