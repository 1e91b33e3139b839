"""Tokens, sandbox time and money: counted, reserved, refused, and what a task ends with."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from libs.core.lifecycle import TaskState
from libs.core.plan import Limits
from libs.core.prices import FREE, Prices, usd
from services.executor.convert import report_to_proto
from services.executor.model import Report, Used
from services.executor.tools.tool import ToolContext
from services.executor.usage import Usage, exceeded
from tests.executor_world import (
    Call,
    FakeReporter,
    FakeTool,
    echo,
    make_assignment,
    make_registry,
    make_service,
)

LIMITS = Limits(max_total_tokens=1000, max_cost_usd=0.5)


def make_usage(
    limits: Limits = LIMITS, *, tokens: int = 0, cost_usd: float = 0.0, prices: Prices = FREE
) -> Usage:
    return Usage(limits, before=used(tokens, cost_usd), prices=prices)


def used(tokens: int = 0, cost_usd: float = 0.0, sandbox_ms: int = 0) -> Used:
    return Used(tokens=tokens, cost_usd=usd(cost_usd), sandbox_ms=sandbox_ms)


def spending(
    tokens: int, cost_usd: float = 0.0, *, reserved: int = 0, then: StepFailed | None = None
) -> Call:
    """A tool call that reserves and uses so much, then answers or raises."""

    async def call(arguments: dict[str, Json], context: ToolContext) -> Json:
        reservation = context.usage.reserve(tokens=reserved)
        reservation.settle(tokens=tokens, cost_usd=cost_usd)
        if then is not None:
            raise then
        return arguments

    return call


async def run(
    call: Call,
    *,
    limits: Limits = LIMITS,
    before: Used | None = None,
    steps: int = 2,
    prices: Prices = FREE,
) -> tuple[list[Report], FakeTool]:
    """The reports of a task whose every step spends, and the tool."""
    registry = make_registry(tool := FakeTool(call))
    assignment = make_assignment(
        *([("fake", {})] * steps), registry=registry, limits=limits, used=before
    )
    reporter = FakeReporter()
    await make_service(registry, prices=prices).run_task(assignment, reporter)
    return reporter.reports, tool


def test_settled_use_takes_the_place_of_what_was_reserved() -> None:
    usage = make_usage()

    reservation = usage.reserve(tokens=800, cost_usd=0.25)
    reserved = usage.used
    reservation.settle(tokens=300, cost_usd=0.125)
    usage.add(tokens=10)

    assert reserved == used(800, 0.25)
    assert usage.used == used(310, 0.125)


def test_reservation_that_is_never_settled_counts_in_full() -> None:
    usage = make_usage()
    usage.reserve(tokens=400)

    settled = usage.reserve(tokens=100)
    settled.settle(tokens=1)

    assert usage.used.tokens == 401


@pytest.mark.parametrize(
    ("tokens", "cost_usd", "code"),
    [
        (601, 0.0, FailureCode.TOKEN_LIMIT),
        (0, 0.3, FailureCode.COST_LIMIT),
        (601, 0.3, FailureCode.TOKEN_LIMIT),
    ],
)
def test_reservation_over_what_is_left_is_refused(
    tokens: int, cost_usd: float, code: FailureCode
) -> None:
    usage = make_usage(tokens=300, cost_usd=0.125)
    usage.reserve(tokens=100, cost_usd=0.125)

    with pytest.raises(StepFailed) as failed:
        usage.reserve(tokens=tokens, cost_usd=cost_usd)

    assert failed.value.code == code
    assert usage.used == used(100, 0.125)


def test_reservation_of_exactly_what_is_left_is_granted() -> None:
    usage = make_usage(tokens=300, cost_usd=0.25)

    usage.reserve(tokens=700, cost_usd=0.25)

    assert usage.used == used(700, 0.25)


def test_reservation_without_limits_is_granted() -> None:
    make_usage(Limits()).reserve(tokens=10**9, cost_usd=1e6)


def test_reservation_says_what_is_left() -> None:
    with pytest.raises(StepFailed, match=r"may use 900 tokens; .* used or reserved 200 of 1000"):
        make_usage(tokens=200).reserve(tokens=900)


def test_reservation_is_settled_once() -> None:
    reservation = make_usage().reserve(tokens=1)
    reservation.settle()

    with pytest.raises(ValueError, match="settled already"):
        reservation.settle(tokens=1)


@pytest.mark.parametrize("tokens", [-1, 2**53])
def test_tokens_are_a_count(tokens: int) -> None:
    with pytest.raises(ValueError, match="tokens"):
        make_usage().add(tokens=tokens)


@pytest.mark.parametrize("cost_usd", [-0.1, math.nan, math.inf])
def test_cost_is_finite_and_not_negative(cost_usd: float) -> None:
    with pytest.raises(ValueError, match="cost"):
        make_usage().reserve(cost_usd=cost_usd)


def test_task_within_its_limits_has_not_exceeded_them() -> None:
    assert exceeded(used(1000, 0.5), LIMITS, next_step_usd=Decimal(0)) is None
    assert exceeded(used(10**9, 1e9), Limits(), next_step_usd=Decimal(1)) is None


async def test_steps_report_what_each_used() -> None:
    reports, _ = await run(spending(30, 0.125))

    outcomes = [report.finished for report in reports[1:]]
    assert [outcome.used for outcome in outcomes if outcome] == [used(30, 0.125)] * 2
    message = report_to_proto(reports[1], report_id=1, task_id="t", lease_token=1).finished
    assert (message.tokens, message.cost_usd) == (30, 0.125)


async def test_failed_step_reports_what_it_used() -> None:
    reports, _ = await run(spending(30, then=StepFailed(FailureCode.TOOL_ERROR, "no")))

    assert reports[1].finished is not None
    assert reports[1].finished.failure is not None
    assert reports[1].finished.used.tokens == 30


async def test_step_refused_its_reservation_fails_with_the_limit() -> None:
    reports, _ = await run(spending(600, reserved=600))

    last = reports[2]
    assert last.finished is not None
    assert last.finished.failure is not None
    assert last.finished.failure.code == FailureCode.TOKEN_LIMIT
    assert last.finished.used == used()
    assert last.end is not None
    assert last.end.failure == last.finished.failure


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (spending(1001, reserved=10), FailureCode.TOKEN_LIMIT),
        (spending(0, 0.75), FailureCode.COST_LIMIT),
    ],
)
async def test_task_that_went_over_ends_before_its_next_step(call: Call, code: FailureCode) -> None:
    reports, tool = await run(call)

    assert len(tool.calls) == 1
    last = reports[1]
    assert last.finished is not None
    assert last.finished.failure is None
    assert last.end is not None
    assert last.end.failure is not None
    assert (last.end.failure.code, last.end.failure.step) == (code, None)


async def test_last_step_that_went_over_has_done_its_work() -> None:
    reports, _ = await run(spending(1001), steps=1)

    assert reports[1].end is not None
    assert reports[1].end.state == TaskState.SUCCEEDED


async def test_taken_over_task_goes_on_from_what_was_used() -> None:
    reports, _ = await run(spending(10, reserved=10), before=used(991))

    assert reports[1].end is not None
    assert reports[1].end.failure is not None
    assert reports[1].end.failure.message.endswith("used or reserved 991 of 1000")


async def test_taken_over_task_that_is_over_begins_nothing() -> None:
    (report,), tool = await run(echo, before=used(1001))

    assert tool.calls == []
    assert report.end is not None
    assert report.end.failure is not None
    assert report.end.failure.code == FailureCode.TOKEN_LIMIT
