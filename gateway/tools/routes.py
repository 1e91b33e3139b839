"""GET /v1/tools."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from gateway.accounts.mapping import in_our_words
from gateway.answers import embedded, page_answer, stamp
from gateway.call import open_call
from gateway.links import next_page
from gateway.openapi import CURSOR, LIMIT, REFUSALS, answer, reads
from gateway.query import cursor_of, limit_of
from gateway.route import Route
from gateway.tools import schemas
from libs.pb.pawl.plan.v1 import plan_pb2
from libs.pb.pawl.planner.v1 import planner_service_pb2
from libs.rpc.client import caller_token

router = APIRouter(route_class=Route, tags=["Tools"])


@router.get(
    "/v1/tools",
    summary="List tools",
    response_model=schemas.ToolList,
    responses=REFUSALS | answer(200, "A page of them.", links=next_page("list_tools")),
    openapi_extra=reads(LIMIT, CURSOR),
)
async def list_tools(request: Request) -> Response:
    """Every tool ever registered, with its schemas and examples, and whether it is on offer
    now.
    """
    call = await open_call(request, query=("limit", "cursor"))
    asked = planner_service_pb2.ListToolsRequest(
        page_size=limit_of(call.query), page_token=cursor_of(call.query)
    )
    with caller_token(call.token), in_our_words():
        said = await call.clients.planner.ListTools(asked)
    tools = [tool_record(tool) for tool in said.tools]
    return page_answer(tools, next_page_token=said.next_page_token)


def tool_record(tool: planner_service_pb2.Tool) -> dict[str, Any]:
    """A tool of the catalogue."""
    spec = tool.spec
    return {
        "name": spec.name,
        "version": spec.version,
        "description": spec.description,
        "effects": list(spec.effects),
        "input_schema": embedded(spec.input_schema_json),
        "output_schema": embedded(spec.output_schema_json),
        "examples": [_example(example) for example in spec.examples],
        "digest": spec.digest,
        "available": tool.available,
        "registered_at": stamp(tool.registered_at),
    }


def _example(example: plan_pb2.ToolExample) -> dict[str, Any]:
    """An example; what it does not show is left out."""
    shown: dict[str, Any] = {"title": example.title, "input": embedded(example.input_json)}
    if example.HasField("output_json"):
        shown["output"] = embedded(example.output_json)
    if example.HasField("failure_code"):
        shown["failure_code"] = example.failure_code
    return shown
