"""Finds the server: PAWL_URL and PAWL_API_KEY, else the ready file of a running `pawl up`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from libs.cli.client import Server, Unreachable
from libs.cli.up import ready_file

_WHAT_TO_DO = (
    "Start one with `pawl up`, or set PAWL_URL and PAWL_API_KEY to use one that runs elsewhere."
)


def find_server(environ: Mapping[str, str], data_dir: Path) -> Server:
    """The server to talk to. Raises Unreachable, saying what to do, when none is to be found."""
    url, key = environ.get("PAWL_URL", "").strip(), api_key_of(environ)
    if url and key:
        return Server(url=url.rstrip("/"), api_key=key)
    if url:
        raise Unreachable(
            f"PAWL_URL is {url}, but PAWL_API_KEY is not set: set it to a key of that server."
        )
    running = read_ready_file(data_dir / "ready.json")
    return Server(url=running.url, api_key=key) if key else running


def api_key_of(environ: Mapping[str, str]) -> str:
    """The key of PAWL_API_KEY, or of the file that PAWL_API_KEY_FILE names; empty when neither is
    set. Raises Unreachable when the file cannot be read.
    """
    key, file = (environ.get(name, "").strip() for name in ("PAWL_API_KEY", "PAWL_API_KEY_FILE"))
    if key or not file:
        return key
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unreachable(f"PAWL_API_KEY_FILE is {file}, which cannot be read: {error}") from error


def read_ready_file(path: Path) -> Server:
    """The server that a ready file names; its process must live. Raises Unreachable otherwise."""
    try:
        ready = ready_file.read(path)
    except OSError as error:
        raise Unreachable(f"{path} cannot be read: {error.strerror}. {_WHAT_TO_DO}") from error
    except ValueError as error:
        raise Unreachable(f"{error}. {_WHAT_TO_DO}") from error
    if ready is None:
        raise Unreachable(f"No server runs here ({path} names none). {_WHAT_TO_DO}")
    return Server(url=ready.url.rstrip("/"), api_key=ready.api_key)
