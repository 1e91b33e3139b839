from __future__ import annotations

import pytest

from libs.core.lifecycle import TaskState
from services.artifact.model import ArtifactState
from services.artifact.outcome import settled_state

EXPECTED = {
    None: None,
    TaskState.CREATED: None,
    TaskState.PLANNED: None,
    TaskState.QUEUED: None,
    TaskState.RUNNING: None,
    TaskState.SUCCEEDED: ArtifactState.AVAILABLE,
    TaskState.FAILED: ArtifactState.DISCARDED,
    TaskState.CANCELLED: ArtifactState.DISCARDED,
}


@pytest.mark.parametrize("state", [None, *TaskState])
def test_every_state_of_a_task_has_its_outcome(state: TaskState | None) -> None:
    assert settled_state(state) is EXPECTED[state]
