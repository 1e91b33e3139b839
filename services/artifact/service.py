"""Use cases of artifact: store once, read checked, settle when the task has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from uuid import UUID

from prometheus_client import Counter

from libs.core.errors import PawlError
from libs.core.paging import Listing, page_size_of
from libs.db.engine import Connection
from libs.process.crash_points import pass_crash_point
from libs.process.logs import get_logger
from libs.rpc.context import Caller, require_scope
from services.artifact.blobs import BlobDamaged, Blobs
from services.artifact.content import blob_key_of, sha256_of
from services.artifact.model import (
    Artifact,
    ArtifactPage,
    ArtifactState,
    NewArtifact,
    Place,
    Settlement,
    TaskEnd,
)
from services.artifact.outcome import settled_state
from services.artifact.store import ArtifactStore, settle_in

READ = "tasks:read"

log = get_logger(__name__)
_corrupt = Counter("pawl_artifact_corrupt_total", "Reads whose SHA-256 did not match")


class Artifacts:
    """Every method raises PawlError; which codes, its docstring says.

    Read your writes: whoever has seen a task succeed sees its artifacts, whether or not the event
    of it has been published and handled. A reader who finds staged artifacts asks the event log for
    the task's state, and settles them itself when the task has ended.
    """

    def __init__(self, store: ArtifactStore, *, blobs: Blobs, new_id: Callable[[], UUID]) -> None:
        self._store = store
        self._blobs = blobs
        self._new_id = new_id

    async def put(self, new: NewArtifact) -> Artifact:
        """Store an artifact as staged, or return the equal one that stands at its place.

        Raises `already_exists` for another type or other data, `conflict` when the task is not
        running, `internal` when what is stored there does not match its SHA-256, `unavailable`
        when the data is large and the blob store away.
        """
        blob_key = blob_key_of(new.content, tenant_id=new.place.tenant_id)
        if blob_key is None:
            stored = await self._store.put(new, artifact_id=self._new_id())
        else:
            stored = await self._put_large(new, blob_key)
        if stored is None:
            stored = await self._store.at(new.place)
        if stored is None:
            raise await self._why_not(new)
        if (stored.type, stored.sha256) != (new.type, new.content.sha256):
            raise _place_taken(new)
        pass_crash_point("artifact.after_row")
        return await self._whole(stored)

    async def _put_large(self, new: NewArtifact, blob_key: str) -> Artifact | None:
        """As the store's `put`; first the blob, then the row.

        So no row is ever without its bytes. What stays of a put that ends between the two, or
        whose row is refused, is a blob without a row, for a sweeper to come.
        """
        stored = await self._store.at(new.place)
        if stored is not None:
            return stored
        try:
            await self._blobs.put(blob_key, new.content.data.encode())
        except BlobDamaged as error:
            _note_damage(new.place, error.message)
            raise
        pass_crash_point("artifact.after_blob_before_row")
        stored = await self._store.put(new, artifact_id=self._new_id(), blob_key=blob_key)
        return None if stored is None else replace(stored, data=new.content.data)

    async def get(self, caller: Caller, artifact_id: UUID | None) -> Artifact:
        """An available artifact of the caller's tenant, with its data. None is no artifact's id.

        Raises `insufficient_scope`, `permission_denied` for a key that is bound to agents or
        definitions, `not_found`, `internal` when its bytes do not match their SHA-256,
        `unavailable` when the data is large and the blob store away.
        """
        require_scope(caller, READ)
        _refuse_bound(caller)
        found = await self._read(caller, artifact_id)
        if found is not None and found.state is ArtifactState.STAGED:
            await self._catch_up(found.place.task_id, tenant_id=caller.tenant_id)
            found = await self._read(caller, artifact_id)
        if found is None or found.state is not ArtifactState.AVAILABLE:
            raise PawlError("not_found", "there is no such artifact")
        return await self._whole(found)

    async def list(
        self, caller: Caller, task_id: UUID, *, page_size: int, page_token: str
    ) -> ArtifactPage:
        """The available artifacts of a task of the caller's tenant, without their data.

        A task of another tenant, or one that does not exist, has none. Raises `insufficient_scope`,
        `permission_denied` as `get`, `validation_failed`, `invalid_cursor`.
        """
        require_scope(caller, READ)
        _refuse_bound(caller)
        count = page_size_of(page_size)
        listing = Listing(name="artifacts", bound_to=(str(caller.tenant_id), str(task_id)))
        after = (0, -1)
        if page_token:
            step_index, ordinal = listing.keyset(page_token, kinds=(int, int))
            after = (int(step_index), int(ordinal))
        await self._catch_up(task_id, tenant_id=caller.tenant_id)
        found = await self._store.list_available(
            task_id, tenant_id=caller.tenant_id, after=after, count=count + 1
        )
        page, token = listing.page(
            found, count=count, keyset_of=lambda one: (one.place.step_index, one.place.ordinal)
        )
        return ArtifactPage(artifacts=page, next_page_token=token)

    async def _read(self, caller: Caller, artifact_id: UUID | None) -> Artifact | None:
        if artifact_id is None:
            return None
        return await self._store.read(artifact_id, tenant_id=caller.tenant_id)

    async def _whole(self, artifact: Artifact) -> Artifact:
        """The artifact with its data, if those are still the bytes that were stored."""
        if artifact.blob_key is None or artifact.data is not None:
            if artifact.data is not None and sha256_of(artifact.data) == artifact.sha256:
                return artifact
            raise _damaged(artifact, "the row's data do not match their SHA-256")
        try:
            data = await self._blobs.get(
                artifact.blob_key, sha256=artifact.sha256, size_bytes=artifact.size_bytes
            )
        except BlobDamaged as error:
            raise _damaged(artifact, error.message) from error
        return replace(artifact, data=data.decode())

    async def _catch_up(self, task_id: UUID, *, tenant_id: UUID) -> None:
        state = settled_state(await self._store.state_if_staged(task_id, tenant_id=tenant_id))
        if state is not None:
            await self._store.settle(task_id, tenant_id=tenant_id, state=state)

    async def _why_not(self, new: NewArtifact) -> PawlError:
        if await self._store.is_taken(new.place):
            return _place_taken(new)
        return PawlError("conflict", f"the task {new.place.task_id} is not running")


async def settle_tasks(tx: Connection, ends: Iterable[TaskEnd]) -> None:
    """Make what is staged of ended tasks available or discarded, in `tx`. Idempotent."""
    settlements = [
        Settlement(task_id=end.task_id, tenant_id=end.tenant_id, state=state)
        for end in ends
        if (state := settled_state(end.state)) is not None
    ]
    await settle_in(tx, settlements)


def _refuse_bound(caller: Caller) -> None:
    """An artifact does not say of which agent its task is, so nobody can say who may see it."""
    if caller.allowed_agent_ids is not None or caller.allowed_task_ids is not None:
        raise PawlError(
            "permission_denied",
            "this key is bound to agents or definitions; it may not read artifacts",
        )


def _damaged(artifact: Artifact, detail: str) -> PawlError:
    _note_damage(artifact.place, detail, artifact_id=str(artifact.id))
    return PawlError(
        "internal", f"the artifact {artifact.id} does not match its SHA-256; it is damaged"
    )


def _note_damage(place: Place, detail: str, **ids: str) -> None:
    _corrupt.inc()
    log.error(
        "artifact does not match its checksum",
        detail=detail,
        task_id=str(place.task_id),
        tenant_id=str(place.tenant_id),
        **ids,
    )


def _place_taken(new: NewArtifact) -> PawlError:
    place = new.place
    return PawlError(
        "already_exists",
        f"step {place.step_index} of the task {place.task_id} has another artifact as number "
        f"{place.ordinal}; what is stored never changes",
    )
