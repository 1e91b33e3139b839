"""One refusal for the refused tasks of a batch."""

from __future__ import annotations

from libs.core.errors import FieldError, PawlError, field_error
from services.scheduler.batch_refusal import MAX_ERRORS, refusal


def test_nothing_refused_is_no_refusal() -> None:
    assert refusal({}) is None


def test_fields_begin_with_their_task() -> None:
    error = refusal(
        {
            2: field_error("unknown_tool", "plan.steps[0].tool", "no x"),
            0: field_error("validation_failed", "priority", "9999"),
        }
    )

    assert error is not None
    assert error.code == "validation_failed"
    assert error.message == "tasks[0].priority: 9999 (and 1 more task is refused)"
    assert [(one.field, one.pointer, one.code) for one in error.errors] == [
        ("tasks[0].priority", "/tasks/0/priority", "validation_failed"),
        ("tasks[2].plan.steps[0].tool", "/tasks/2/plan/steps/0/tool", "unknown_tool"),
    ]


def test_refusal_without_a_field_is_about_its_task() -> None:
    error = refusal({1: PawlError("malformed_json", "it is not JSON")})

    assert error is not None
    assert error.message == "tasks[1]: it is not JSON"
    assert error.errors == (
        FieldError(field="tasks[1]", code="malformed_json", detail="it is not JSON"),
    )


def test_field_of_the_whole_task_is_its_task() -> None:
    error = refusal({1: field_error("validation_failed", "", "it is wrong")})

    assert error is not None
    assert error.message == "tasks[1]: it is wrong"
    assert error.errors[0].pointer == "/tasks/1"


def test_what_says_nothing_about_a_task_is_passed_on() -> None:
    away = PawlError("unavailable", "the planner is away", retry_after_seconds=1)

    assert refusal({0: field_error("plan_invalid", "plan", "no"), 3: away}) is away


def test_few_of_many_errors_are_named() -> None:
    error = refusal({n: field_error("plan_invalid", "plan", "no") for n in range(100)})

    assert error is not None
    assert len(error.errors) == MAX_ERRORS
    assert error.message == "tasks[0].plan: no (and 99 more tasks are refused)"
