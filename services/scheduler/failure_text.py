"""What a failed task says about the steps that ran and those that did not."""

from __future__ import annotations

from dataclasses import replace

from libs.core.errors import Failure

MAX_MESSAGE = 4000


def with_progress(
    failure: Failure, *, step_count: int, succeeded: int, failed_step: int | None = None
) -> Failure:
    """The failure with a last sentence on what was and was not executed, within 4,000 characters.

    `succeeded` steps ran to a good end; `failed_step` began and did not.
    """
    sentence = progress_sentence(step_count, succeeded=succeeded, failed_step=failed_step)
    room = MAX_MESSAGE - len(sentence) - 1
    said = failure.message.rstrip().replace("\x00", "\ufffd")
    if len(said) > room:
        said = said[: room - 1] + "…"
    if said and said[-1] not in ".!?…":
        said += "."
        said = said if len(said) <= room else said[:-2] + "…"
    return replace(failure, message=f"{said} {sentence}".lstrip())


def progress_sentence(step_count: int, *, succeeded: int, failed_step: int | None) -> str:
    """`Steps 1 to 2 of 5 ran, step 3 failed; steps 4 to 5 did not run.` and its simpler forms."""
    begun = succeeded if failed_step is None else failed_step
    if begun == 0:
        return "No step was executed."
    parts = []
    if succeeded:
        parts.append(f"{_steps(1, succeeded)} of {step_count} ran")
    if failed_step is not None:
        parts.append(
            f"step {failed_step} failed"
            if parts
            else f"Step {failed_step} of {step_count} began and failed"
        )
    said = ", ".join(parts)
    if begun == step_count:
        return f"{said}; no step was left."
    left = _steps(begun + 1, step_count)
    return f"{said}; {left[0].lower()}{left[1:]} did not run."


def _steps(first: int, last: int) -> str:
    return f"Step {first}" if first == last else f"Steps {first} to {last}"
