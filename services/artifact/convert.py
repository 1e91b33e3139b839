"""Artifact's messages and events to its model and back; pure."""

from __future__ import annotations

from uuid import UUID

from libs.bus.envelope import BusEvent, UnreadableEventError, read_task_event
from libs.core.errors import PawlError, field_error
from libs.core.ids import parse_id
from libs.core.lifecycle import TaskState
from libs.pb.pawl.artifact.v1 import artifact_pb2, artifact_service_pb2
from libs.rpc.context import Service
from libs.rpc.convert import to_timestamp
from services.artifact.content import content_of, naming_errors
from services.artifact.model import Artifact, ArtifactPage, ArtifactState, NewArtifact, Place

_TRANSITION = "pawl.task.status_transition.v1"
_STATES = {
    ArtifactState.STAGED: artifact_pb2.ARTIFACT_STATE_STAGED,
    ArtifactState.AVAILABLE: artifact_pb2.ARTIFACT_STATE_AVAILABLE,
    ArtifactState.DISCARDED: artifact_pb2.ARTIFACT_STATE_DISCARDED,
}


def new_artifact_from_proto(
    message: artifact_service_pb2.PutArtifactRequest, *, service: Service
) -> NewArtifact:
    """What an executor emits for the tenant and the task of its token.

    Raises PawlError: `permission_denied` for another task, `validation_failed`,
    `payload_too_large`.
    """
    task_id = task_id_from_proto(message.task_id)
    if service.tenant_id is None or service.task_id != task_id:
        raise PawlError("permission_denied", f"the token does not speak for the task {task_id}")
    errors = naming_errors(
        kind=message.type, step_index=message.step_index, ordinal=message.ordinal
    )
    if errors:
        words = "; ".join(f"{error.field}: {error.detail}" for error in errors)
        raise PawlError("validation_failed", words, errors=tuple(errors))
    place = Place(
        tenant_id=service.tenant_id,
        task_id=task_id,
        step_index=message.step_index,
        ordinal=message.ordinal,
    )
    return NewArtifact(place=place, type=message.type, content=content_of(message.data_json))


def task_id_from_proto(text: str) -> UUID:
    """A task's id; PawlError `validation_failed`."""
    task_id = parse_id(text)
    if task_id is None:
        detail = "that is not the id of a task; a UUID is"
        raise field_error("validation_failed", "task_id", detail, fine="invalid_format")
    return task_id


def artifact_id_from_proto(text: str) -> UUID | None:
    """An artifact's id, or None for what cannot be one."""
    return parse_id(text, prefix="art_")


def artifact_to_proto(artifact: Artifact) -> artifact_pb2.Artifact:
    """An artifact; without data where it was not read."""
    return artifact_pb2.Artifact(
        id=str(artifact.id),
        tenant_id=str(artifact.place.tenant_id),
        task_id=str(artifact.place.task_id),
        step_index=artifact.place.step_index,
        ordinal=artifact.place.ordinal,
        type=artifact.type,
        data_json=artifact.data or "",
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        state=_STATES[artifact.state],
        created_at=to_timestamp(artifact.created_at),
    )


def page_to_proto(page: ArtifactPage) -> artifact_service_pb2.ListArtifactsResponse:
    """A page of descriptions."""
    return artifact_service_pb2.ListArtifactsResponse(
        artifacts=[artifact_to_proto(artifact) for artifact in page.artifacts],
        next_page_token=page.next_page_token,
    )


def ends_a_task(event: BusEvent) -> bool:
    """Whether an event of the task topic is the transition to a terminal state."""
    return event.type == _TRANSITION and event.data.get("to_state") in _TERMINAL


def end_from_event(event: BusEvent) -> TaskState:
    """The state in which a task ended; UnreadableEventError when the event does not say that."""
    state = read_task_event(event).to_state
    if state not in _TERMINAL:
        raise UnreadableEventError(f"the state {state!r} ends no task")
    return TaskState(state)


_TERMINAL = frozenset(state.value for state in TaskState if state.is_terminal)
