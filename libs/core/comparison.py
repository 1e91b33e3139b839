"""Where a run parts from the one that it repeats: the first thing that differs, in the order in
which it came about. Pure.

Hashes are compared first, so that of all steps only one has to be read: `first_step_apart` says
which, `compare` says what differs there. Two ended runs match exactly when their task hashes do.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from libs.core.canonical import Json, canonical_text, same_json
from libs.core.lifecycle import TaskState
from libs.core.recorded_trace import RecordedBlock, RecordedStep

MAX_SHOWN_BYTES = 2048
EXCERPT_CHARACTERS = 500
# So much of what is the same stands before the first difference.
_LEAD_CHARACTERS = 100


class Field(StrEnum):
    """What can differ. STEP_HASH: the hashes do, and nothing that they cover."""

    PLAN_HASH = "plan_hash"
    TOOL = "tool"
    RESOLVED_INPUT = "resolved_input"
    OUTPUT = "output"
    STATUS = "status"
    FAILURE_CODE = "failure_code"
    STATE = "state"
    STEP_HASH = "step_hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """One difference, both values in full. `step_index` is None where no single step differs."""

    step_index: int | None
    field: Field
    original: Json
    replayed: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A run by its hashes: of each step that was begun, in order, None for one without an end."""

    plan_hash: str | None
    state: TaskState
    failure_code: str | None
    step_hashes: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`matches` is None while nothing differs and one of the two has not ended."""

    matches: bool | None
    first_divergence: Divergence | None


Sides = tuple[RecordedStep | None, RecordedStep | None]
"""One step of the original and of the replay; None where it was never begun."""


def outline_of(block: RecordedBlock) -> Outline:
    """The outline of a whole trace."""
    return Outline(
        plan_hash=block.plan_hash,
        state=block.state,
        failure_code=block.failure_code,
        step_hashes=tuple(step.step_hash for step in block.steps),
    )


def compare_blocks(original: RecordedBlock, replayed: RecordedBlock) -> Comparison:
    """Compare two traces of which everything is at hand."""
    outlines = outline_of(original), outline_of(replayed)
    place = first_step_apart(*outlines)
    step = (None, None) if place is None else (_at(original, place), _at(replayed, place))
    return compare(*outlines, step=step)


def first_step_apart(original: Outline, replayed: Outline) -> int | None:
    """The index of the first step whose hashes differ, or that only one of both has begun.

    As long as one of the runs goes on, what it has not yet closed says nothing.
    """
    ours, theirs = original.step_hashes, replayed.step_hashes
    for place in range(max(len(ours), len(theirs))):
        one, other = ours[place : place + 1], theirs[place : place + 1]
        is_open = (not original.state.is_terminal and not any(one)) or (
            not replayed.state.is_terminal and not any(other)
        )
        if is_open:
            return None
        if one != other:
            return place + 1
    return None


def compare(original: Outline, replayed: Outline, *, step: Sides = (None, None)) -> Comparison:
    """Compare two runs; `step` is the content of their first step apart, if there is one."""
    divergence = _plan_divergence(original, replayed)
    if divergence is None and (place := first_step_apart(original, replayed)) is not None:
        divergence = _step_divergence(place, step) or Divergence(
            step_index=place,
            field=Field.STEP_HASH,
            original=_hash_at(original, place),
            replayed=_hash_at(replayed, place),
        )
    have_ended = original.state.is_terminal and replayed.state.is_terminal
    if divergence is None and have_ended:
        divergence = _end_divergence(original, replayed)
    if divergence is not None:
        return Comparison(matches=False, first_divergence=divergence)
    return Comparison(matches=True if have_ended else None, first_divergence=None)


def shown_values(divergence: Divergence) -> tuple[Json, Json]:
    """Both values, each replaced by its size, hash and the part around the first difference when
    its canonical form is larger than 2 KiB.
    """
    texts = canonical_text(divergence.original), canonical_text(divergence.replayed)
    pairs = enumerate(zip(*texts, strict=False))
    apart = next((place for place, (a, b) in pairs if a != b), min(map(len, texts)))
    begin = max(0, apart - _LEAD_CHARACTERS)
    values = (divergence.original, divergence.replayed)
    one, other = (
        _shown(value, text, begin=begin) for value, text in zip(values, texts, strict=True)
    )
    return one, other


def _shown(value: Json, text: str, *, begin: int) -> Json:
    data = text.encode()
    if len(data) <= MAX_SHOWN_BYTES:
        return value
    return {
        "$truncated": True,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "excerpt": text[begin : begin + EXCERPT_CHARACTERS],
        "excerpt_at": begin,
    }


def _plan_divergence(original: Outline, replayed: Outline) -> Divergence | None:
    one, other = original.plan_hash, replayed.plan_hash
    return None if one == other else _whole(Field.PLAN_HASH, one, other)


def _step_divergence(place: int, step: Sides) -> Divergence | None:
    one, other = step
    if one is None or other is None:
        found = (one and one.status, other and other.status)
        return None if found == (None, None) else _in_step(place, Field.STATUS, found)
    if one.label != other.label:
        return _in_step(place, Field.TOOL, (one.label, other.label))
    inputs = (one.resolved_input, other.resolved_input)
    # A step without an end has no input on record.
    if one.is_finished and other.is_finished and not same_json(*inputs):
        return _in_step(place, Field.RESOLVED_INPUT, inputs)
    if one.status != other.status:
        return _in_step(place, Field.STATUS, (one.status, other.status))
    if one.failure_code != other.failure_code:
        return _in_step(place, Field.FAILURE_CODE, (one.failure_code, other.failure_code))
    if not same_json(one.output, other.output):
        return _in_step(place, Field.OUTPUT, (one.output, other.output))
    return None


def _end_divergence(original: Outline, replayed: Outline) -> Divergence | None:
    if original.state is not replayed.state:
        return _whole(Field.STATE, original.state.value, replayed.state.value)
    if original.failure_code != replayed.failure_code:
        return _whole(Field.FAILURE_CODE, original.failure_code, replayed.failure_code)
    return None


def _whole(field: Field, original: Json, replayed: Json) -> Divergence:
    return Divergence(step_index=None, field=field, original=original, replayed=replayed)


def _in_step(place: int, field: Field, values: tuple[Json, Json]) -> Divergence:
    return Divergence(step_index=place, field=field, original=values[0], replayed=values[1])


def _at(block: RecordedBlock, place: int) -> RecordedStep | None:
    return block.steps[place - 1] if place <= len(block.steps) else None


def _hash_at(outline: Outline, place: int) -> str | None:
    return outline.step_hashes[place - 1] if place <= len(outline.step_hashes) else None
