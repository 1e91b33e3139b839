"""Proto to model and back; pure. JSON that callers wrote is read strictly, whoever brings it."""

from __future__ import annotations

from uuid import UUID

from libs.core.canonical import Json
from libs.core.errors import Failure, FailureCode, FieldError, PawlError, field_error
from libs.core.ids import parse_id
from libs.core.json_reader import json_type, read_json
from libs.core.tool_spec import Effect, ToolExample, ToolSpec
from libs.pb.pawl.plan.v1 import plan_pb2
from libs.pb.pawl.planner.v1 import planner_service_pb2 as pb
from libs.rpc.convert import (
    failure_to_proto,
    limits_from_proto,
    plan_from_proto,
    plan_to_proto,
    to_timestamp,
    tool_ref_from_proto,
    tool_ref_to_proto,
    tool_spec_to_proto,
)
from services.planner.model import (
    FrozenPlan,
    FrozenPlanRequest,
    GivenPlan,
    Offer,
    PlanRequest,
    ToolPage,
    Unplannable,
)

MAX_JSON_BYTES = 2**20
MAX_CANONICAL_BYTES = 8 * MAX_JSON_BYTES
"""Canonical text is longer: 1e20 becomes 21 digits."""


def plan_request_from_proto(request: pb.BuildPlanRequest) -> PlanRequest:
    """Raises PawlError as the strict reader does, validation_failed for a wrong task input."""
    if not request.HasField("tier"):
        raise field_error("validation_failed", "tier", "it is missing")
    task_input = _read(request.task_input_json, field="task_input", is_canonical=True)
    if not isinstance(task_input, dict):
        detail = f"{json_type(task_input)}; an object is allowed"
        raise field_error("validation_failed", "task_input", detail)
    given = request.HasField("plan_json")
    return PlanRequest(
        task_input=task_input,
        given=GivenPlan(value=_read(request.plan_json, field="plan")) if given else None,
        asked=limits_from_proto(request.asked),
        tier=limits_from_proto(request.tier),
        test_mode=request.test_mode,
        tier_name=request.tier_name,
    )


def frozen_plan_from_proto(request: pb.AdmitPlanRequest) -> FrozenPlanRequest:
    """Raises PawlError validation_failed for what is no frozen plan."""
    if not request.HasField("tier"):
        raise field_error("validation_failed", "tier", "it is missing")
    if not request.plan.steps or not request.tool_set:
        raise field_error("validation_failed", "plan", "it is missing, or its tool set is")
    return FrozenPlanRequest(
        plan=plan_from_proto(request.plan),
        tool_set=tuple(tool_ref_from_proto(tool) for tool in request.tool_set),
        tier=limits_from_proto(request.tier),
        test_mode=request.test_mode,
        recorded=request.recorded,
        tier_name=request.tier_name,
    )


def outcome_to_proto(outcome: FrozenPlan | Unplannable) -> pb.BuildPlanResponse:
    """A plan, or the failure that a task without one ends with."""
    if isinstance(outcome, Unplannable):
        failure = Failure(code=FailureCode.PLANNER_UNAVAILABLE, message=outcome.message)
        return pb.BuildPlanResponse(unplannable=failure_to_proto(failure))
    planned = pb.FrozenPlan(
        plan=plan_to_proto(outcome.plan),
        tool_set=[tool_ref_to_proto(tool) for tool in outcome.tool_set],
        plan_hash=outcome.plan_hash,
        planned_by=outcome.planned_by,
        note=outcome.note,
    )
    return pb.BuildPlanResponse(planned=planned)


def offer_from_proto(request: pb.RegisterToolsRequest) -> Offer:
    """Raises PawlError validation_failed for what is no spec at all."""
    tools = tuple(
        _spec(message, field=f"tools[{place}]") for place, message in enumerate(request.tools)
    )
    return Offer(executor_id=request.executor_id, boot_id=boot_id_of(request.boot_id), tools=tools)


def boot_id_of(text: str) -> UUID:
    """Raises PawlError validation_failed."""
    boot_id = parse_id(text, prefix="")
    if boot_id is None:
        raise field_error("validation_failed", "boot_id", "a UUID is allowed")
    return boot_id


def page_to_proto(page: ToolPage) -> pb.ListToolsResponse:
    """A page of the catalogue."""
    tools = [
        pb.Tool(
            spec=tool_spec_to_proto(listed.tool.spec),
            available=listed.available,
            registered_at=to_timestamp(listed.tool.registered_at),
        )
        for listed in page.tools
    ]
    return pb.ListToolsResponse(tools=tools, next_page_token=page.next_page_token)


def _spec(message: plan_pb2.ToolSpec, *, field: str) -> ToolSpec:
    return ToolSpec(
        name=message.name,
        version=message.version,
        description=message.description,
        input_schema=_schema(message.input_schema_json, field=f"{field}.input_schema_json"),
        output_schema=_schema(message.output_schema_json, field=f"{field}.output_schema_json"),
        effects=tuple(_effect(text, field=f"{field}.effects") for text in message.effects),
        examples=tuple(
            _example(example, field=f"{field}.examples[{place}]")
            for place, example in enumerate(message.examples)
        ),
    )


def _example(message: plan_pb2.ToolExample, *, field: str) -> ToolExample:
    given = _read(message.input_json, field=f"{field}.input_json")
    if not isinstance(given, dict):
        detail = f"{json_type(given)}; an object is allowed"
        raise field_error("validation_failed", f"{field}.input_json", detail)
    shows_output = message.HasField("output_json")
    return ToolExample(
        title=message.title,
        input=given,
        output=_read(message.output_json, field=f"{field}.output_json") if shows_output else None,
        failure_code=message.failure_code if message.HasField("failure_code") else None,
    )


def _schema(text: str, *, field: str) -> dict[str, Json]:
    try:
        schema = _read(text, field=field)
    except PawlError as error:
        raise field_error("validation_failed", field, error.message, fine=error.code) from error
    if not isinstance(schema, dict):
        detail = f"{json_type(schema)}; a JSON Schema is an object here"
        raise field_error("validation_failed", field, detail, fine="invalid_schema")
    return schema


def _effect(text: str, *, field: str) -> Effect:
    try:
        return Effect(text)
    except ValueError as error:
        allowed = ", ".join(Effect)
        detail = f"{text[:64]!r} is no effect; allowed are {allowed}"
        raise field_error("validation_failed", field, detail) from error


def _read(text: str, *, field: str, is_canonical: bool = False) -> Json:
    data = text.encode()
    most = MAX_CANONICAL_BYTES if is_canonical else MAX_JSON_BYTES
    if len(data) > most:
        raise field_error("payload_too_large", field, f"{len(data)} bytes; {most} are allowed")
    try:
        return read_json(data, whole_doubles=is_canonical)
    except PawlError as error:
        raise PawlError(
            error.code,
            f"{field}: {error.message}",
            errors=tuple(_under(field, part) for part in error.errors)
            or (FieldError(field=field, code=error.code, detail=error.message),),
        ) from error


def _under(field: str, error: FieldError) -> FieldError:
    place = f"{field}.{error.field}" if error.field else field
    return FieldError(field=place, code=error.code, detail=error.detail)
