"""The operator's key: made at the first start, kept beside the data, used while it is valid."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from libs.cli.up.services import Installation
from libs.process.env import ConfigError
from libs.process.files import write_atomically

TENANT = "default"
TIER = "enterprise"
_REFUSED = 1


async def ensure_api_key(installation: Installation) -> str:
    """The kept key if auth accepts it, else a new one. ConfigError when auth cannot say."""
    path = installation.data_dir.api_key_file
    kept = _kept(path)
    if kept:
        code, _, said = await _auth(installation, "check-key", stdin=kept)
        if code == 0:
            return kept
        if code != _REFUSED:
            raise ConfigError(f"the key in {path} could not be checked: {said}")
    arguments = ("bootstrap", "--tenant", TENANT, "--tier", TIER)
    code, answer, said = await _auth(installation, *arguments)
    if code != 0:
        raise ConfigError(f"the operator's key could not be made: {said}")
    key = str(json.loads(answer)["api_key"])
    write_atomically(path, key + "\n")
    return key


def _kept(path: Path) -> str:
    """The key in the file; empty when there is none, or what is there cannot be one."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


async def _auth(
    installation: Installation, *arguments: str, stdin: str = ""
) -> tuple[int, str, str]:
    """Run a command of auth: exit code, stdout, last line of stderr."""
    process = await asyncio.create_subprocess_exec(
        *installation.command("auth", *arguments),
        env=installation.common_env("auth"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        stdout, stderr = await process.communicate(stdin.encode())
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return process.returncode or 0, stdout.decode(), lines[-1] if lines else "it said nothing"
