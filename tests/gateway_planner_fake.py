"""The planner that a gateway under test sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from libs.pb.pawl.plan.v1 import plan_pb2
from libs.pb.pawl.planner.v1 import planner_service_pb2, planner_service_pb2_grpc
from tests.gateway_fakes import at


@dataclass
class FakePlanner(planner_service_pb2_grpc.PlannerServiceServicer):
    """Lists one tool."""

    requests: list[Any] = field(default_factory=list)

    async def ListTools(
        self, request: planner_service_pb2.ListToolsRequest, _context: object
    ) -> planner_service_pb2.ListToolsResponse:
        self.requests.append(request)
        spec = plan_pb2.ToolSpec(
            name="math",
            version="1.0.0",
            description="Counts.",
            input_schema_json='{"type":"object"}',
            output_schema_json='{"maximum":1e+21}',
            effects=["pure"],
            digest="d" * 64,
            examples=[
                plan_pb2.ToolExample(
                    title="Much", input_json='{"n":1e+21}', output_json='{"m":1.0}'
                ),
                plan_pb2.ToolExample(title="Nothing", input_json="{}", failure_code="INPUT_SCHEMA"),
                plan_pb2.ToolExample(title="Anything", input_json="{}"),
            ],
        )
        tool = planner_service_pb2.Tool(spec=spec, available=True, registered_at=at(0))
        return planner_service_pb2.ListToolsResponse(tools=[tool])
