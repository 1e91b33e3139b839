"""The planner, as the scheduler calls it."""

from __future__ import annotations

from uuid import UUID

from libs.core.errors import Failure
from libs.core.plan import Limits
from libs.pb.pawl.planner.v1 import planner_service_pb2 as planner_pb
from libs.pb.pawl.planner.v1.planner_service_pb2_grpc import PlannerServiceStub
from libs.rpc.client import RpcChannel, on_behalf
from libs.rpc.context import Caller, current
from libs.rpc.convert import (
    failure_from_proto,
    limits_to_proto,
    plan_from_proto,
    plan_to_proto,
    tool_ref_from_proto,
    tool_ref_to_proto,
)
from services.scheduler.model import FrozenPlan

PLAN_TIMEOUT_SECONDS = 10.0


class PlannerClient:
    """Plans inputs over gRPC."""

    def __init__(self, channel: RpcChannel) -> None:
        self._stub = channel.stub(PlannerServiceStub)

    async def build(
        self,
        *,
        tenant_id: UUID,
        task_input: str,
        plan_json: str | None,
        asked: Limits,
        tier: Limits,
        test_mode: bool,
    ) -> FrozenPlan | Failure:
        """A frozen plan, or why nobody could make one. PawlError: what the planner refuses."""
        request = planner_pb.BuildPlanRequest(
            task_input_json=task_input,
            plan_json=plan_json,
            asked=limits_to_proto(asked),
            tier=limits_to_proto(tier),
            test_mode=test_mode,
            tier_name=_tier_name(),
        )
        with on_behalf(tenant_id=tenant_id):
            response = await self._stub.BuildPlan(request, timeout=PLAN_TIMEOUT_SECONDS)
        if response.HasField("unplannable"):
            return failure_from_proto(response.unplannable)
        planned = response.planned
        return FrozenPlan(
            plan=plan_from_proto(planned.plan),
            tool_set=tuple(tool_ref_from_proto(tool) for tool in planned.tool_set),
            plan_hash=planned.plan_hash,
            planned_by=planned.planned_by,
            note=planned.note if planned.HasField("note") else None,
        )

    async def admit(
        self, frozen: FrozenPlan, *, tenant_id: UUID, tier: Limits, test_mode: bool, recorded: bool
    ) -> frozenset[str]:
        """The names of the tools that a frozen plan, run once more, does not call.

        PawlError: why it may not run.
        """
        request = planner_pb.AdmitPlanRequest(
            plan=plan_to_proto(frozen.plan),
            tool_set=[tool_ref_to_proto(tool) for tool in frozen.tool_set],
            tier=limits_to_proto(tier),
            test_mode=test_mode,
            recorded=recorded,
            tier_name=_tier_name(),
        )
        with on_behalf(tenant_id=tenant_id):
            response = await self._stub.AdmitPlan(request, timeout=PLAN_TIMEOUT_SECONDS)
        return frozenset(response.recorded_tools)


def _tier_name() -> str:
    """The tier of whoever calls, for the words of a refusal."""
    principal = current().principal
    return principal.tier if isinstance(principal, Caller) else ""
