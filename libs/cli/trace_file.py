"""Reads a trace file from disk or standard input, bounded and strict, without any server."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import BinaryIO

from libs.client.traces import Trace, read_trace
from libs.core.canonical import Json
from libs.core.recorded_trace import NotATrace

MAX_BYTES = 256 * 1024 * 1024
"""More than a trace of a thousand steps with usual outputs; a bound against files that are none."""


def read_trace_file(name: str) -> Json:
    """The JSON value of the file, `-` for standard input. Raises NotATrace: what is wrong where."""
    data = _data(name)
    try:
        return parse(data)
    except NotATrace as error:
        raise NotATrace(f"{name}: {error}") from error


def load_trace(name: str) -> Trace:
    """The trace in a file, `-` for standard input. Raises NotATrace: what is wrong where."""
    value = read_trace_file(name)
    try:
        return read_trace(value)
    except NotATrace as error:
        raise NotATrace(f"{name}: {error}") from error


def parse(data: bytes) -> Json:
    """The value that `data` spells; refuses what two readers could understand differently."""
    try:
        value: Json = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise NotATrace(f"the file is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise NotATrace(f"the file is not JSON: {error.msg} at {where}") from error
    except RecursionError as error:
        raise NotATrace("the file is nested too deeply") from error
    return value


def _data(name: str) -> bytes:
    if name == "-":
        return _bounded(sys.stdin.buffer, "standard input")
    try:
        with Path(name).open("rb") as stream:
            return _bounded(stream, name)
    except OSError as error:
        raise NotATrace(f"{name} cannot be read: {error.strerror}") from error


def _bounded(stream: BinaryIO, name: str) -> bytes:
    data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise NotATrace(f"{name} is larger than {MAX_BYTES // 1024 // 1024} MiB")
    return data


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise NotATrace(f"the key {key[:64]!a} occurs twice in one object")
            seen.add(key)
    return members


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise NotATrace(f"the number {text[:20]}… is beyond the range of a double")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise NotATrace(f"the number {text[:20]} is beyond the range of a double")
    return value


def _constant(name: str) -> Json:
    raise NotATrace(f"{name} is not a number that JSON knows")


_MOST_DIGITS = 310
_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)
