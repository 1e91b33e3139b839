"""Writes the page of a task, so that readers see a whole page or none."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

from libs.cli.output import ReaderLeft, console, plain
from libs.cli.run import BadArgument
from libs.cli.trace_page.page import draw
from libs.client.traces import Trace
from libs.process.files import write_atomically

_MODE = 0o644
"""Pages are made to be handed on; the directory decides who may read them."""


def write_page(trace: Trace, name: str, *, taken_at: datetime | None) -> None:
    """Draw a trace into the file `name`, `-` for standard output, and say so.

    Raises NotATrace for a trace that cannot be checked, BadArgument for a file that cannot be
    written, ReaderLeft.
    """
    report = trace.verify()
    data = draw(trace, report, taken_at=taken_at).encode()
    if name == "-":
        _print(data)
        return
    try:
        _write(Path(os.path.realpath(name)), data)
    except OSError as error:
        raise BadArgument(f"--html: {name} cannot be written: {error.strerror}") from error
    words = "" if report.holds else "; its hashes do not match, and it says where"
    console().print(
        plain(f"{name}: {len(data) / 1024:,.0f} KiB{words}", limit=5000), soft_wrap=True
    )


def _print(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise ReaderLeft from error


def _write(path: Path, data: bytes) -> None:
    """Replace a file; what is none, such as a pipe, is written to."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            file.write(data)
    else:
        write_atomically(path, data, mode=_MODE)
