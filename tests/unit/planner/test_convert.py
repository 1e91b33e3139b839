from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.plan import Limits
from libs.pb.pawl.plan.v1 import plan_pb2
from libs.pb.pawl.planner.v1 import planner_service_pb2 as pb
from libs.rpc.convert import tool_spec_to_proto
from services.planner import convert
from services.planner.model import ListedTool, PlanRequest, ToolPage, Unplannable
from tests.unit.planner.shipped import MATH, make_tool

BOOT = "185d012b-a332-4924-b84c-8edd78d64975"


def read(task_input: str = "{}", plan: str | None = None, **changes: Any) -> PlanRequest:
    fields: dict[str, Any] = {"tier": plan_pb2.Limits()}
    request = pb.BuildPlanRequest(task_input_json=task_input, **(fields | changes))
    if plan is not None:
        request.plan_json = plan
    return convert.plan_request_from_proto(request)


def test_unset_fields_are_not_asked_for() -> None:
    request = read('{"topic": "x"}')

    assert request == PlanRequest(
        task_input={"topic": "x"}, given=None, asked=Limits(), tier=Limits(), test_mode=False
    )


def test_a_plan_is_given_as_soon_as_it_is_set() -> None:
    request = read(
        plan="null", asked=plan_pb2.Limits(max_steps=3), tier=plan_pb2.Limits(max_steps=8)
    )

    assert request.given is not None
    assert request.given.value is None
    assert (request.asked, request.tier) == (Limits(max_steps=3), Limits(max_steps=8))
    assert read(tier=plan_pb2.Limits(), tier_name="pro").tier_name == "pro"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "malformed_json"),
        ("{", "malformed_json"),
        ('{"a": 1, "a": 2}', "duplicate_key"),
        ('{"a": NaN}', "non_finite_number"),
        ('{"a": 1e999}', "non_finite_number"),
        ('{"a": "\\u0000"}', "invalid_characters"),
        ('{"a": "\\ud800"}', "invalid_characters"),
        ('{"a":' + "[" * 64 + "]" * 64 + "}", "too_deep"),
        ('{"steps":[' * 100_000, "too_deep"),
        ("{" + ",".join(f'"k{i}":1' for i in range(10_001)) + "}", "too_many_keys"),
    ],
    ids=lambda value: value[:24],
)
def test_json_of_callers_is_read_strictly(text: str, code: str) -> None:
    with pytest.raises(PawlError) as of_input:
        read(text)
    with pytest.raises(PawlError) as of_plan:
        read(plan=text)

    assert of_input.value.code == of_plan.value.code == code
    assert of_input.value.errors[0].field.startswith("task_input")
    assert of_plan.value.errors[0].field.startswith("plan")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"a": 9007199254740992}', "number_out_of_range"),
        ('{"a":"' + "x" * 2**20 + '"}', "payload_too_large"),
    ],
    ids=lambda value: value[:24],
)
def test_a_plan_is_the_callers_own_text_but_the_input_is_canonical(text: str, code: str) -> None:
    with pytest.raises(PawlError) as of_plan:
        read(plan=text)
    request = read(text)

    assert of_plan.value.code == code
    assert set(request.task_input) == {"a"}


def test_a_canonical_input_is_bounded_too() -> None:
    with pytest.raises(PawlError) as refused:
        read('{"a":"' + "x" * 2**23 + '"}')

    assert refused.value.code == "payload_too_large"


@pytest.mark.parametrize("text", ["null", "[]", '"x"', "5", "true"])
def test_a_task_input_is_an_object(text: str) -> None:
    with pytest.raises(PawlError) as caught:
        read(text)

    assert (caught.value.code, caught.value.errors[0].field) == ("validation_failed", "task_input")


def test_the_tier_is_required() -> None:
    with pytest.raises(PawlError) as caught:
        read(tier=None)

    assert caught.value.errors[0].field == "tier"


def test_an_unplannable_input_becomes_a_failure() -> None:
    message = convert.outcome_to_proto(Unplannable(message="supply more"))

    assert message.WhichOneof("outcome") == "unplannable"
    assert (message.unplannable.code, message.unplannable.message) == (
        "PLANNER_UNAVAILABLE",
        "supply more",
    )
    assert not message.unplannable.HasField("step")


def test_an_offer_is_read_and_its_digest_ignored() -> None:
    spec = tool_spec_to_proto(MATH)
    spec.digest = "0" * 64

    offer = convert.offer_from_proto(
        pb.RegisterToolsRequest(executor_id="e", boot_id=BOOT, tools=[spec])
    )

    assert offer.tools == (MATH,)
    assert offer.boot_id == UUID(BOOT)
    assert offer.tools[0].digest() == MATH.digest()


@pytest.mark.parametrize(
    ("changes", "field", "fine"),
    [
        ({"boot_id": "one"}, "boot_id", "validation_failed"),
        ({"boot_id": ""}, "boot_id", "validation_failed"),
        ({"input_schema_json": "{"}, "tools[0].input_schema_json", "malformed_json"),
        ({"input_schema_json": "true"}, "tools[0].input_schema_json", "invalid_schema"),
        ({"output_schema_json": '{"a":1,"a":2}'}, "tools[0].output_schema_json", "duplicate_key"),
        ({"effects": ["magic"]}, "tools[0].effects", "validation_failed"),
    ],
)
def test_what_is_no_offer_is_refused(changes: dict[str, Any], field: str, fine: str) -> None:
    spec = tool_spec_to_proto(MATH)
    boot_id = changes.pop("boot_id", BOOT)
    for name, value in changes.items():
        if name == "effects":
            del spec.effects[:]
            spec.effects.extend(value)
        else:
            setattr(spec, name, value)

    with pytest.raises(PawlError) as caught:
        convert.offer_from_proto(
            pb.RegisterToolsRequest(executor_id="e", boot_id=boot_id, tools=[spec])
        )

    assert caught.value.code == "validation_failed"
    assert [(e.field, e.code) for e in caught.value.errors] == [(field, fine)]


def test_a_page_says_what_is_available() -> None:
    tool = make_tool(MATH)

    message = convert.page_to_proto(
        ToolPage(tools=(ListedTool(tool=tool, available=True),), next_page_token="t")
    )

    assert message.next_page_token == "t"
    assert message.tools[0].available
    assert message.tools[0].spec == tool_spec_to_proto(MATH)
    assert message.tools[0].registered_at.ToDatetime(tzinfo=UTC) == datetime(
        2026, 11, 23, tzinfo=UTC
    )
