"""What the scheduler speaks of when a task is replayed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from libs.core.errors import Failure


class ReplayMode(StrEnum):
    """How a task is replayed: every step runs, or some are answered from the original's record."""

    LIVE = "live"
    RECORDED = "recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """What a caller asks for: to do once more what a task did."""

    task_id: UUID
    mode: ReplayMode
    key: str | None
    fingerprint: str
    wait_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOf:
    """What a new task replays. `clock_at` is the time that its tools are shown; `recorded_tools`
    are those that the original answers for, None: every step runs.
    """

    task_id: UUID
    clock_at: datetime
    recorded_tools: frozenset[str] | None

    @property
    def mode(self) -> ReplayMode:
        """How it is replayed."""
        return ReplayMode.LIVE if self.recorded_tools is None else ReplayMode.RECORDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """An executor asks what the original of a replay came to in a step with that input."""

    task_id: UUID
    lease_token: int
    step_index: int
    input_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAnswer:
    """What the original of a replay has on record of a step; `input_sha256` is None when it never
    finished it. A step that succeeded has an output, one that failed a failure.
    """

    of_task_id: UUID
    input_sha256: str | None
    output: str | None
    failure: Failure | None
