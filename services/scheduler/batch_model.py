"""What the scheduler speaks of when tasks are submitted together."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from libs.core.errors import Failure
from services.scheduler.model import NewTask, StoredTask, Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a caller asks for: these tasks, all or none. One key stands for all of them."""

    submissions: tuple[Submission, ...]
    key: str | None
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One task of a batch about to be stored; with `failure` nobody could plan it."""

    task: NewTask
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedBatch:
    """The answer to a batch, in its order; `replayed` when its key named an earlier one."""

    tasks: tuple[StoredTask, ...]
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHolder:
    """What an idempotency key stands for: one task or the tasks of a batch in their order, and the
    SHA-256 (hex) of the request that made them.
    """

    task_ids: tuple[UUID, ...]
    fingerprint: str
    is_batch: bool
