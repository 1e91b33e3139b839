"""References inside a step's input: paths to the task's input and to outputs of earlier steps.

A reference is an object whose only key is `$ref`: `{"$ref": "steps.1.output.result"}` or
`{"$ref": "input.topic"}`. It is a path and nothing else: no brackets, no expressions, no templates.
Keys are joined by dots and made of letters, digits, `_` and `-`; in an array the key is the index.
`{"$literal": x}` stands for `x` as it is, so that data may hold the key `$ref`. References are
resolved once: what they bring in is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from libs.core.json_measure import Unfit, measure

REF_KEY = "$ref"
LITERAL_KEY = "$literal"
MAX_REF_LENGTH = 1000
MAX_PATH_KEYS = 64
MAX_RESOLVED_BYTES = 2**20
# A request is at most 64 levels deep; an input may put some levels around what it refers to.
MAX_RESOLVED_DEPTH = 80

_KEY = re.compile(r"[\w-]+")
_STEP = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)

Path = tuple[str | int, ...]
"""Where something stands in a JSON value: keys and array indices from the root."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A parsed reference. `step_index` is None when the root is the task's input."""

    step_index: int | None
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        """The reference as it is written."""
        root = "input" if self.step_index is None else f"steps.{self.step_index}.output"
        return ".".join((root, *self.path))


@dataclass(frozen=True, slots=True)
class RefSite:
    """An object with the key `$ref`: where it stands, what `$ref` holds, whether it is alone."""

    path: Path
    text: Json
    alone: bool


class BadReference(ValueError):  # noqa: N818 - the name says what is wrong, like the code bad_ref
    """A text that is not a reference; the message says why."""


def parse_ref(text: Json) -> Ref:
    """Read a reference. Raises BadReference; whether its target exists is not judged here."""
    if not isinstance(text, str):
        raise BadReference("a reference is a string such as steps.1.output.result or input.topic")
    if len(text) > MAX_REF_LENGTH:
        raise BadReference(f"a reference has at most {MAX_REF_LENGTH} characters")
    root, *rest = text.split(".")
    step_index: int | None = None
    if root == "steps":
        if len(rest) < 2 or not _STEP.fullmatch(rest[0]) or rest[1] != "output":
            raise BadReference("a reference to a step is steps.N.output with N from 1")
        step_index, rest = int(rest[0]), rest[2:]
    elif root != "input":
        raise BadReference("a reference starts with input or steps.N.output")
    if len(rest) > MAX_PATH_KEYS:
        raise BadReference(f"a reference has at most {MAX_PATH_KEYS} keys")
    if not all(_KEY.fullmatch(key) for key in rest):
        raise BadReference("keys are joined by dots and made of letters, digits, _ and -")
    return Ref(step_index=step_index, path=tuple(rest))


def find_refs(value: Json) -> list[RefSite]:
    """Every reference in `value` in document order, malformed ones too; none in `$literal`."""
    sites: list[RefSite] = []
    _collect(value, path=(), into=sites)
    return sites


def _collect(value: Json, *, path: Path, into: list[RefSite]) -> None:
    if isinstance(value, dict):
        if REF_KEY in value:
            into.append(RefSite(path, value[REF_KEY], alone=len(value) == 1))
        elif not is_literal(value):
            for key, item in value.items():
                _collect(item, path=(*path, key), into=into)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _collect(item, path=(*path, index), into=into)


def is_literal(value: Json) -> bool:
    """Whether `value` is an escape: an object whose only key is `$literal`."""
    return isinstance(value, dict) and len(value) == 1 and LITERAL_KEY in value


def without_literals(value: Json) -> Json:
    """`value` with every `$literal` unwrapped and references left as they are."""
    if isinstance(value, dict) and REF_KEY not in value:
        if is_literal(value):
            return value[LITERAL_KEY]
        return {key: without_literals(item) for key, item in value.items()}
    return [without_literals(item) for item in value] if isinstance(value, list) else value


def resolve(value: Json, *, task_input: Json, outputs: Mapping[int, Json]) -> Json:
    """`value` with every reference replaced by its target and every `$literal` unwrapped.

    Targets are shared with the result, not copied. Raises StepFailed(INPUT_SCHEMA) with reason
    REF_MISSING (no such step output, key or index), REF_TYPE (the path goes through a value that
    has no such parts, or the reference is malformed) or INPUT_LIMIT (the whole is larger than
    MAX_RESOLVED_BYTES or deeper than MAX_RESOLVED_DEPTH).
    """
    resolved = _resolved(value, task_input=task_input, outputs=outputs)
    try:
        measure(resolved, max_bytes=MAX_RESOLVED_BYTES, max_depth=MAX_RESOLVED_DEPTH)
    except Unfit as unfit:
        message = f"the input with its references is too large: {unfit.message}"
        raise _failed(message, reason="INPUT_LIMIT") from unfit
    return resolved


def _resolved(value: Json, *, task_input: Json, outputs: Mapping[int, Json]) -> Json:
    if isinstance(value, dict):
        if REF_KEY in value:
            return _target(value, task_input=task_input, outputs=outputs)
        if is_literal(value):
            return value[LITERAL_KEY]
        return {
            key: _resolved(item, task_input=task_input, outputs=outputs)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_resolved(item, task_input=task_input, outputs=outputs) for item in value]
    return value


def _target(holder: dict[str, Json], *, task_input: Json, outputs: Mapping[int, Json]) -> Json:
    try:
        if len(holder) != 1:
            raise BadReference("an object with $ref has no other keys")
        ref = parse_ref(holder[REF_KEY])
    except BadReference as error:
        raise _failed(f"a reference is malformed: {error}", reason="REF_TYPE") from error
    if ref.step_index is None:
        return follow(ref, root=task_input)
    if ref.step_index not in outputs:
        raise _failed(f"{ref.text}: step {ref.step_index} has no output yet", reason="REF_MISSING")
    return follow(ref, root=outputs[ref.step_index])


def follow(ref: Ref, *, root: Json) -> Json:
    """The value at the reference's path under `root`. Raises StepFailed as `resolve` does."""
    value = root
    for key in ref.path:
        if isinstance(value, Mapping):
            if key not in value:
                raise _failed(f"{ref.text}: there is no key {key}", reason="REF_MISSING")
            value = value[key]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            value = _item(value, key=key, ref=ref)
        else:
            raise _failed(
                f"{ref.text}: {key} is looked up in {kind_of(value)}, which has no parts",
                reason="REF_TYPE",
            )
    return value


def _item(value: Sequence[Json], *, key: str, ref: Ref) -> Json:
    if not _INDEX.fullmatch(key):
        raise _failed(
            f"{ref.text}: {key} is looked up in an array, whose keys are 0, 1, 2 …",
            reason="REF_TYPE",
        )
    if int(key) >= len(value):
        raise _failed(
            f"{ref.text}: there is no item {key}; the array has {len(value)}",
            reason="REF_MISSING",
        )
    return value[int(key)]


def is_index(key: str) -> bool:
    """Whether a key of a path can be the index of an array."""
    return _INDEX.fullmatch(key) is not None


def kind_of(value: Json) -> str:
    """The JSON type of a value in words, with its article."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, Mapping):
        return "an object"
    return "a number" if isinstance(value, int | float) else "an array"


def dotted(path: Path, *, under: str = "") -> str:
    """A path as people read it: `variables.a`, `items[0].name`; `under` stands before it."""
    text = under
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _failed(message: str, *, reason: str) -> StepFailed:
    return StepFailed(FailureCode.INPUT_SCHEMA, message, reason=reason)
