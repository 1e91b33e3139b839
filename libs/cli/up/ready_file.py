"""The ready file: where a running Pawl is to be found, for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from libs.cli.up.processes import mark_of
from libs.process.files import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One process of a service; `address` is for gRPC, the gateway's for HTTP (host:port)."""

    instance: str
    address: str
    metrics_address: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresEntry:
    """The database: `dsn` of a role that only reads, `pid` None for somebody else's server."""

    pid: int | None
    dsn: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyFile:
    """What the file says. It exists while Pawl runs and is readable by its owner only."""

    url: str
    api_key: str = field(repr=False)
    pid: int
    data_dir: str
    version: str
    postgres: PostgresEntry
    services: dict[str, tuple[Instance, ...]]


def write(path: Path, ready: ReadyFile) -> None:
    """Write the file in one go, with mode 0600."""
    write_atomically(path, json.dumps(asdict(ready), indent=2) + "\n")


def read(path: Path) -> ReadyFile | None:
    """What a ready file says; None when there is none or its process has ended.

    ValueError when it is not a ready file, OSError when it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        found = json.loads(text)
        ready = ReadyFile(
            **{
                **found,
                "postgres": PostgresEntry(**found["postgres"]),
                "services": {
                    name: tuple(Instance(**item) for item in instances)
                    for name, instances in found["services"].items()
                },
            }
        )
    except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a ready file of this release") from error
    return ready if mark_of(ready.pid) is not None else None
