"""How much the simulation does in one run; PAWL_SIMULATION multiplies it."""

from __future__ import annotations

import os
from dataclasses import dataclass

FACTOR = float(os.environ.get("PAWL_SIMULATION", "1"))
"""1: what CI runs, about a minute on two cores for the histories and as much for the rest."""

CONFORMANCE_SEQUENCES = int(250 * FACTOR)
MACHINE_HISTORIES = int(400 * FACTOR)
MUTANT_HISTORIES = int(250 * FACTOR)


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """So many histories of a profile."""

    profile: str
    histories: int


SEEDS = (
    Seeds(profile="storm", histories=int(1100 * FACTOR)),
    Seeds(profile="breeze", histories=int(900 * FACTOR)),
)
