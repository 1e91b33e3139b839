from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from libs.bus.envelope import BusEvent, UnreadableEventError
from libs.core.errors import PawlError
from libs.core.lifecycle import TaskState
from libs.pb.pawl.artifact.v1 import artifact_service_pb2 as pb
from libs.rpc.context import Service
from services.artifact.convert import (
    artifact_id_from_proto,
    end_from_event,
    ends_a_task,
    new_artifact_from_proto,
    task_id_from_proto,
)

TASK = UUID("01936b2e-0000-7000-8000-000000000001")
TENANT = UUID("01936b2e-0000-7000-8000-00000000000a")
TRANSITION = "pawl.task.status_transition.v1"


def make_event(kind: str, to_state: object) -> BusEvent:
    return BusEvent(
        topic="pawl.task.events.v1",
        position=1,
        key=TASK,
        sequence=5,
        id=f"{TASK}:5",
        type=kind,
        source="/pawl/scheduler",
        subject=str(TASK),
        tenant_id=TENANT,
        time=datetime(2026, 1, 1, tzinfo=UTC),
        data={"task_id": str(TASK), "tenant_id": str(TENANT), "seq": 5, "to_state": to_state},
    )


@pytest.mark.parametrize(
    ("kind", "to_state", "expected"),
    [
        (TRANSITION, "succeeded", True),
        (TRANSITION, "failed", True),
        (TRANSITION, "cancelled", True),
        (TRANSITION, "running", False),
        (TRANSITION, None, False),
        (TRANSITION, 5, False),
        ("pawl.task.step_finished.v1", "succeeded", False),
    ],
)
def test_which_events_end_a_task(kind: str, to_state: object, expected: bool) -> None:
    assert ends_a_task(make_event(kind, to_state)) is expected


def test_end_of_a_task() -> None:
    assert end_from_event(make_event(TRANSITION, "failed")) is TaskState.FAILED
    with pytest.raises(UnreadableEventError):
        end_from_event(make_event(TRANSITION, "running"))


@pytest.mark.parametrize("text", [str(TASK), f"task_{TASK}", f"task_{TASK.hex}", str(TASK).upper()])
def test_task_ids_in_every_spelling(text: str) -> None:
    assert task_id_from_proto(text) == TASK


@pytest.mark.parametrize("text", ["", "x", f"art_{TASK}", f"{{{TASK}}}", str(TASK) + "\n"])
def test_task_ids_that_are_none(text: str) -> None:
    with pytest.raises(PawlError) as caught:
        task_id_from_proto(text)
    assert caught.value.code == "validation_failed"


def test_artifact_ids() -> None:
    assert artifact_id_from_proto(f"art_{TASK}") == TASK
    assert artifact_id_from_proto(f"task_{TASK}") is None


@pytest.mark.parametrize(
    "service",
    [
        Service(name="executor"),
        Service(name="executor", tenant_id=TENANT),
        Service(name="executor", task_id=TASK),
        Service(name="executor", tenant_id=TENANT, task_id=TENANT),
    ],
)
def test_a_new_artifact_is_of_the_token_s_tenant_and_task(service: Service) -> None:
    request = pb.PutArtifactRequest(
        task_id=str(TASK), step_index=1, type="report.summary", data_json="1"
    )

    with pytest.raises(PawlError) as caught:
        new_artifact_from_proto(request, service=service)

    assert caught.value.code == "permission_denied"


def test_a_new_artifact_names_every_mistake() -> None:
    request = pb.PutArtifactRequest(task_id=str(TASK), ordinal=-1, type="", data_json="1")
    service = Service(name="executor", tenant_id=TENANT, task_id=TASK)

    with pytest.raises(PawlError) as caught:
        new_artifact_from_proto(request, service=service)

    assert [error.field for error in caught.value.errors] == ["type", "step_index", "ordinal"]
