"""The gRPC face of artifact: convert, call the use case, convert."""

from __future__ import annotations

from libs.db.outage import database_refusal
from libs.pb.pawl.artifact.v1 import artifact_service_pb2 as pb
from libs.pb.pawl.artifact.v1 import artifact_service_pb2_grpc as pb_grpc
from libs.rpc.context import current_caller, current_service
from libs.rpc.server import Context, RpcServer
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import TokenVerifier
from services.artifact import convert
from services.artifact.access import ACCESS, SERVICE
from services.artifact.service import Artifacts


class ArtifactServicer(pb_grpc.ArtifactServiceServicer):
    """One method per RPC; each promises what the proto says."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def PutArtifact(
        self, request: pb.PutArtifactRequest, _: Context
    ) -> pb.PutArtifactResponse:
        """Store one artifact as staged."""
        new = convert.new_artifact_from_proto(request, service=current_service())
        stored = await self._artifacts.put(new)
        return pb.PutArtifactResponse(artifact=convert.artifact_to_proto(stored))

    async def GetArtifact(
        self, request: pb.GetArtifactRequest, _: Context
    ) -> pb.GetArtifactResponse:
        """Read one available artifact."""
        artifact_id = convert.artifact_id_from_proto(request.artifact_id)
        found = await self._artifacts.get(current_caller(), artifact_id)
        return pb.GetArtifactResponse(artifact=convert.artifact_to_proto(found))

    async def ListArtifacts(
        self, request: pb.ListArtifactsRequest, _: Context
    ) -> pb.ListArtifactsResponse:
        """List the available artifacts of a task."""
        page = await self._artifacts.list(
            current_caller(),
            convert.task_id_from_proto(request.task_id),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return convert.page_to_proto(page)


def make_server(
    artifacts: Artifacts,
    *,
    address: str,
    verifier: TokenVerifier,
    tls: TlsFiles | None = None,
) -> RpcServer:
    """The server of artifact, ready to start at `address` (host:port)."""
    server = RpcServer(
        service="artifact",
        address=address,
        verifier=verifier,
        access=ACCESS,
        translate=database_refusal,
        tls=tls,
    )
    server.add(pb_grpc.add_ArtifactServiceServicer_to_server, ArtifactServicer(artifacts), SERVICE)
    return server
