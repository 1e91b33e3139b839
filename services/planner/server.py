"""The gRPC face of the planner: convert, call the use case, convert."""

from __future__ import annotations

from libs.db.outage import database_refusal
from libs.pb.pawl.planner.v1 import planner_service_pb2 as pb
from libs.pb.pawl.planner.v1 import planner_service_pb2_grpc as pb_grpc
from libs.rpc.convert import to_timestamp
from libs.rpc.server import Context, RpcServer
from libs.rpc.tls import TlsFiles
from libs.rpc.tokens import TokenVerifier
from services.planner import convert
from services.planner.access import ACCESS, SERVICE
from services.planner.catalog import Catalog
from services.planner.service import Planner


class PlannerServicer(pb_grpc.PlannerServiceServicer):
    """One method per RPC; each promises what the proto says."""

    def __init__(self, planner: Planner, catalog: Catalog) -> None:
        self._planner = planner
        self._catalog = catalog

    async def BuildPlan(self, request: pb.BuildPlanRequest, _: Context) -> pb.BuildPlanResponse:
        """Turn an input into a frozen plan."""
        outcome = await self._planner.build(convert.plan_request_from_proto(request))
        return convert.outcome_to_proto(outcome)

    async def AdmitPlan(self, request: pb.AdmitPlanRequest, _: Context) -> pb.AdmitPlanResponse:
        """Say whether a frozen plan may run once more."""
        recorded = await self._planner.admit(convert.frozen_plan_from_proto(request))
        return pb.AdmitPlanResponse(recorded_tools=recorded)

    async def RegisterTools(
        self, request: pb.RegisterToolsRequest, _: Context
    ) -> pb.RegisterToolsResponse:
        """Announce an executor's tools."""
        expires_at = await self._catalog.register(convert.offer_from_proto(request))
        return pb.RegisterToolsResponse(expires_at=to_timestamp(expires_at))

    async def WithdrawTools(
        self, request: pb.WithdrawToolsRequest, _: Context
    ) -> pb.WithdrawToolsResponse:
        """Take an offer back."""
        await self._catalog.withdraw(
            executor_id=request.executor_id, boot_id=convert.boot_id_of(request.boot_id)
        )
        return pb.WithdrawToolsResponse()

    async def ListTools(self, request: pb.ListToolsRequest, _: Context) -> pb.ListToolsResponse:
        """List the catalogue."""
        page = await self._catalog.list(page_size=request.page_size, page_token=request.page_token)
        return convert.page_to_proto(page)


def make_server(
    planner: Planner,
    catalog: Catalog,
    *,
    address: str,
    verifier: TokenVerifier,
    tls: TlsFiles | None = None,
) -> RpcServer:
    """The server of the planner, ready to start at `address` (host:port)."""
    server = RpcServer(
        service="planner",
        address=address,
        verifier=verifier,
        access=ACCESS,
        translate=database_refusal,
        tls=tls,
    )
    servicer = PlannerServicer(planner, catalog)
    server.add(pb_grpc.add_PlannerServiceServicer_to_server, servicer, SERVICE)
    return server
