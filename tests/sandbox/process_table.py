"""Which processes of this machine descend from one, and whether they still run.

Those of the databases that other tests have left running do not count: their workers come and go.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Running:
    """A process; a later one with the same id began at another moment."""

    process_id: int
    began: int


def processes_below(ancestor: int) -> set[Running]:
    """Those that descend from a process, without the ones that have ended."""
    parents = _table()
    return {process for process in parents if ancestor in _line(process, parents)}


def still_running(processes: set[Running]) -> set[Running]:
    """Those of them that have not ended."""
    return processes & set(_table())


def _table() -> dict[Running, int]:
    """All that run, each with the id of its parent."""
    found: dict[Running, int] = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            name, _, rest = (place / "stat").read_text(encoding="utf-8").rpartition(")")
        except OSError:
            continue  # it has ended meanwhile
        facts = rest.split()
        if facts[0] != "Z" and not name.endswith("(postgres"):
            found[Running(int(place.name), int(facts[19]))] = int(facts[1])
    return found


def _line(process: Running, parents: dict[Running, int]) -> list[int]:
    """Its parent, that one's parent, and so on."""
    by_id = {each.process_id: parent for each, parent in parents.items()}
    found: list[int] = []
    current = process.process_id
    while current in by_id:
        current = by_id[current]
        found.append(current)
    return found
