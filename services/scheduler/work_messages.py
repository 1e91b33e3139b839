"""What comes in and goes out on a Work stream, in the scheduler's words."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.scheduler.model import Assigned, Report, StopOrder, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A report as it came; `report` is None and `flaw` says why when it could not be read."""

    report_id: int
    task_id: str
    known_id: UUID | None
    report: Report | None
    flaw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What goes to the executor in one message; acks are (report id, task id, verdict)."""

    assignments: tuple[Assigned, ...]
    acks: tuple[tuple[int, str, Verdict], ...]
    stops: tuple[StopOrder, ...]
    drain: bool
