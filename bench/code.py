"""`python -m bench.code`: steps of code alone; prints a table and one line of JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from bench.code_report import code_rows
from bench.code_steps import FULL, QUICK, code_steps
from bench.report import print_rows, rounded, this_machine
from libs.core.sandboxes import SANDBOXES


def main(
    *,
    quick: Annotated[bool, typer.Option(help="About a minute instead of five.")] = False,
    backend: Annotated[
        str, typer.Option(help=f"One of {', '.join(SANDBOXES)}; all if left out.")
    ] = "",
) -> None:
    """Measure steps of code in each sandbox of this machine."""
    if backend and backend not in SANDBOXES:
        sys.exit(f"bench: there is no sandbox {backend}; there are {', '.join(SANDBOXES)}")
    asked = (backend,) if backend else SANDBOXES
    figures = code_steps(QUICK if quick else FULL, say=_say, backends=asked)
    machine = this_machine("embedded")
    print_rows("Pawl, steps of code", code_rows(figures))
    line = {"machine": asdict(machine), "code": [asdict(one) for one in figures]}
    print(json.dumps(rounded(line), separators=(",", ":")))


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
