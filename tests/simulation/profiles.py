"""How much the simulation does in one run; PAWL_SIMULATION multiplies it."""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("PAWL_SIMULATION", "1"))
"""1: what CI runs, about a minute for the histories and as much for the rest."""

CONFORMANCE_SEQUENCES = int(120 * FACTOR)
