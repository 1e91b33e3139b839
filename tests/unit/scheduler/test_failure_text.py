"""What a failed task says about what ran."""

from __future__ import annotations

import pytest

from libs.core.errors import Failure, FailureCode
from services.scheduler.failure_text import MAX_MESSAGE, progress_sentence, with_progress


@pytest.mark.parametrize(
    ("step_count", "succeeded", "failed_step", "sentence"),
    [
        (0, 0, None, "No step was executed."),
        (5, 0, None, "No step was executed."),
        (5, 2, None, "Steps 1 to 2 of 5 ran; steps 3 to 5 did not run."),
        (5, 4, None, "Steps 1 to 4 of 5 ran; step 5 did not run."),
        (3, 3, None, "Steps 1 to 3 of 3 ran; no step was left."),
        (1, 0, 1, "Step 1 of 1 began and failed; no step was left."),
        (3, 0, 1, "Step 1 of 3 began and failed; steps 2 to 3 did not run."),
        (4, 1, 2, "Step 1 of 4 ran, step 2 failed; steps 3 to 4 did not run."),
        (4, 3, 4, "Steps 1 to 3 of 4 ran, step 4 failed; no step was left."),
    ],
)
def test_sentence(step_count: int, succeeded: int, failed_step: int | None, sentence: str) -> None:
    said = progress_sentence(step_count, succeeded=succeeded, failed_step=failed_step)

    assert said == sentence


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("it broke", "it broke. No step was executed."),
        ("it broke! ", "it broke! No step was executed."),
        ("", "No step was executed."),
        ("a\x00b", "a\ufffdb. No step was executed."),
    ],
)
def test_sentence_follows_the_message(message: str, said: str) -> None:
    failure = Failure(code=FailureCode.TOOL_ERROR, message=message, reason="R")

    full = with_progress(failure, step_count=3, succeeded=0)

    assert full == Failure(code=FailureCode.TOOL_ERROR, message=said, reason="R")


@pytest.mark.parametrize("length", range(MAX_MESSAGE - 30, MAX_MESSAGE + 3))
def test_sentence_is_kept_when_the_message_is_too_long(length: int) -> None:
    failure = Failure(code=FailureCode.TOOL_ERROR, message="x" * length)

    full = with_progress(failure, step_count=3, succeeded=0).message

    assert len(full) <= MAX_MESSAGE
    assert full.endswith((". No step was executed.", "… No step was executed."))
