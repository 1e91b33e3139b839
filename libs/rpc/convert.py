"""Shared proto messages to core types and back; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from libs.core.canonical import canonical_text, read_canonical
from libs.core.errors import Failure, FailureCode
from libs.core.plan import LIMIT_NAMES, Limits, Plan, Step
from libs.core.tiers import TierLimits
from libs.core.tool_spec import Effect, ToolExample, ToolRef, ToolSpec
from libs.pb.pawl.auth.v1 import auth_pb2
from libs.pb.pawl.common.v1 import failure_pb2
from libs.pb.pawl.plan.v1 import plan_pb2

TIER_LIMIT_NAMES = tuple(field.name for field in auth_pb2.TierLimits.DESCRIPTOR.fields)


def to_timestamp(at: datetime) -> Timestamp:
    """An aware datetime as a Timestamp."""
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def from_timestamp(stamp: Timestamp) -> datetime:
    """A Timestamp as an aware datetime in UTC."""
    return stamp.ToDatetime(tzinfo=UTC)


def limits_to_proto(limits: Limits) -> plan_pb2.Limits:
    """Limits; None stays unset."""
    return plan_pb2.Limits(**{name: getattr(limits, name) for name in LIMIT_NAMES})


def limits_from_proto(message: plan_pb2.Limits) -> Limits:
    """Limits; unset becomes None."""
    return Limits(**_set_fields(message))


def tier_limits_to_proto(limits: TierLimits) -> auth_pb2.TierLimits:
    """Tier limits; None stays unset."""
    return auth_pb2.TierLimits(**{name: getattr(limits, name) for name in TIER_LIMIT_NAMES})


def tier_limits_from_proto(message: auth_pb2.TierLimits) -> TierLimits:
    """Tier limits; unset becomes None."""
    return TierLimits(**_set_fields(message))


def plan_to_proto(plan: Plan) -> plan_pb2.Plan:
    """A plan; inputs become canonical JSON text."""
    steps = [
        plan_pb2.Step(step_index=s.step_index, tool=s.tool, input_json=canonical_text(s.input))
        for s in plan.steps
    ]
    return plan_pb2.Plan(steps=steps, limits=limits_to_proto(plan.limits))


def plan_from_proto(message: plan_pb2.Plan) -> Plan:
    """A plan that Pawl itself sent."""
    steps = tuple(
        Step(step_index=s.step_index, tool=s.tool, input=read_canonical(s.input_json))
        for s in message.steps
    )
    return Plan(steps=steps, limits=limits_from_proto(message.limits))


def failure_to_proto(failure: Failure) -> failure_pb2.Failure:
    """A failure; None stays unset."""
    return failure_pb2.Failure(
        code=failure.code.value,
        message=failure.message,
        step=failure.step,
        step_index=failure.step_index,
        reason=failure.reason,
    )


def failure_from_proto(message: failure_pb2.Failure) -> Failure:
    """A failure; ValueError for a code outside the closed list."""
    return Failure(
        code=FailureCode(message.code),
        message=message.message,
        step=message.step if message.HasField("step") else None,
        step_index=message.step_index if message.HasField("step_index") else None,
        reason=message.reason if message.HasField("reason") else None,
    )


def tool_ref_to_proto(tool: ToolRef) -> plan_pb2.ToolRef:
    """One exact tool."""
    return plan_pb2.ToolRef(name=tool.name, version=tool.version, digest=tool.digest)


def tool_ref_from_proto(message: plan_pb2.ToolRef) -> ToolRef:
    """One exact tool."""
    return ToolRef(message.name, message.version, message.digest)


def tool_spec_to_proto(spec: ToolSpec) -> plan_pb2.ToolSpec:
    """A tool's spec with its digest."""
    return plan_pb2.ToolSpec(
        name=spec.name,
        version=spec.version,
        description=spec.description,
        input_schema_json=canonical_text(spec.input_schema),
        output_schema_json=canonical_text(spec.output_schema),
        effects=[effect.value for effect in spec.effects],
        digest=spec.digest(),
        examples=[tool_example_to_proto(example) for example in spec.examples],
    )


def tool_spec_from_proto(message: plan_pb2.ToolSpec) -> ToolSpec:
    """A tool's spec; ValueError when a schema or an example's input is not a JSON object or an
    effect is not known.
    """
    schemas = [read_canonical(t) for t in (message.input_schema_json, message.output_schema_json)]
    if not all(isinstance(schema, dict) for schema in schemas):
        raise ValueError("a schema is not a JSON object")
    return ToolSpec(
        name=message.name,
        version=message.version,
        description=message.description,
        input_schema=schemas[0],  # type: ignore[arg-type]  # checked above
        output_schema=schemas[1],  # type: ignore[arg-type]  # checked above
        effects=tuple(Effect(effect) for effect in message.effects),
        examples=tuple(_tool_example_from_proto(example) for example in message.examples),
    )


def tool_example_to_proto(example: ToolExample) -> plan_pb2.ToolExample:
    """An example of a tool; what it does not show stays unset."""
    return plan_pb2.ToolExample(
        title=example.title,
        input_json=canonical_text(example.input),
        output_json=None if example.output is None else canonical_text(example.output),
        failure_code=example.failure_code,
    )


def _tool_example_from_proto(message: plan_pb2.ToolExample) -> ToolExample:
    given = read_canonical(message.input_json)
    if not isinstance(given, dict):
        raise ValueError("the input of an example is not a JSON object")  # noqa: TRY004 - as above
    return ToolExample(
        title=message.title,
        input=given,
        output=read_canonical(message.output_json) if message.HasField("output_json") else None,
        failure_code=message.failure_code if message.HasField("failure_code") else None,
    )


def _set_fields(message: plan_pb2.Limits | auth_pb2.TierLimits) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields()}
