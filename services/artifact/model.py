"""What the artifact service knows: typed immutable outputs of steps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from libs.core.lifecycle import TaskState


class ArtifactState(StrEnum):
    """Whether others may see an artifact. Staged becomes one of the others, once."""

    STAGED = "staged"
    AVAILABLE = "available"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an artifact stands, at most one ever. Steps count from 1, ordinals from 0."""

    tenant_id: UUID
    task_id: UUID
    step_index: int
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Canonical JSON text with its SHA-256 (hex) and its length in UTF-8 bytes."""

    data: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArtifact:
    """What a step emits, checked."""

    place: Place
    type: str
    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A stored artifact. `data` is None where only its description was read, and as long as the
    blob under `blob_key`, which holds the data of a large one, was not.
    """

    id: UUID
    place: Place
    type: str
    sha256: str
    size_bytes: int
    state: ArtifactState
    created_at: datetime
    data: str | None
    blob_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPage:
    """Descriptions in order of step and ordinal; an empty token means the last page."""

    artifacts: tuple[Artifact, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnd:
    """A task that is over, and its terminal state."""

    task_id: UUID
    tenant_id: UUID
    state: TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What all staged artifacts of a task become."""

    task_id: UUID
    tenant_id: UUID
    state: ArtifactState
