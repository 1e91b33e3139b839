"""What becomes of a task's staged artifacts when the task is in a state."""

from __future__ import annotations

from libs.core.lifecycle import TaskState
from services.artifact.model import ArtifactState


def settled_state(task: TaskState | None) -> ArtifactState | None:
    """What staged artifacts become, or None as long as the task goes on. None: no such task."""
    if task is TaskState.SUCCEEDED:
        return ArtifactState.AVAILABLE
    if task is not None and task.is_terminal:
        return ArtifactState.DISCARDED
    return None
