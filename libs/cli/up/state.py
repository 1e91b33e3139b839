"""What one `pawl up` leaves for the next: the ports it used and the processes it started."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from libs.cli.up.processes import ProcessMark
from libs.process.files import write_atomically

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Ports by what listens there (`gateway-1.http`), and the processes by their name."""

    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, ProcessMark] = field(default_factory=dict)


class StateFile:
    """The state on disk. A file that cannot be understood counts as none: nothing depends on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = _read(path)

    @property
    def state(self) -> State:
        """What is known."""
        return self._state

    def set_ports(self, ports: dict[str, int]) -> None:
        """Remember the ports; ports of things that are not started this time are kept."""
        self._save(State(ports=self._state.ports | ports, processes=self._state.processes))

    def set_process(self, name: str, mark: ProcessMark) -> None:
        """Remember a process that was started."""
        processes = self._state.processes | {name: mark}
        self._save(State(ports=self._state.ports, processes=processes))

    def forget_processes(self) -> None:
        """All of them have ended."""
        self._save(State(ports=self._state.ports))

    def _save(self, state: State) -> None:
        write_atomically(self._path, json.dumps(asdict(state), indent=2) + "\n")
        self._state = state


def _read(path: Path) -> State:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return State(
            ports={str(name): _port(port) for name, port in found["ports"].items()},
            processes={
                str(name): ProcessMark(pid=int(mark["pid"]), started=int(mark["started"]))
                for name, mark in found["processes"].items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return State()


def _port(found: int) -> int:
    port = int(found)
    if not 0 < port <= _LAST_PORT:
        raise ValueError(f"{port} is no port")
    return port
