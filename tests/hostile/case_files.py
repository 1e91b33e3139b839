"""Reads the cases, and builds the values that they spell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent / "cases"
AREAS = tuple(sorted(path.stem for path in CASES.glob("*.json")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One hostile input and what is expected of it."""

    id: str
    input: Mapping[str, Any]
    expect: Mapping[str, Any]

    @property
    def op(self) -> str:
        """What it is done to."""
        return str(self.input["op"])


def cases_of(area: str) -> list[Case]:
    """The cases of one file."""
    return [Case(**case) for case in json.loads((CASES / f"{area}.json").read_text())]


def all_cases() -> list[Case]:
    """The cases of all files."""
    return [case for area in AREAS for case in cases_of(area)]


def built(value: Any, *, names: Mapping[str, str]) -> Any:
    """The value with everything built that it spells, and every `$NAME` replaced."""
    if isinstance(value, str):
        return _filled(value, names)
    if isinstance(value, list):
        return [built(item, names=names) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$repeat": [text, times]}:
            return built(text, names=names) * times
        case {"$cat": [*parts]}:
            return "".join(built(part, names=names) for part in parts)
        case {"$hex": text}:
            return bytes.fromhex(text)
        case {"$nest": [opening, levels, inner, closing]}:
            return opening * levels + built(inner, names=names) + closing * levels
    return {key: built(item, names=names) for key, item in value.items()}


def _filled(text: str, names: Mapping[str, str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(f"${name}", names[name])
    return text
