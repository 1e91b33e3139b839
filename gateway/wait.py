"""How long a caller wants to wait for a task: `?wait=`, or the Prefer header (RFC 7240)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fastapi import Request

from gateway.query import MAX_WAIT_SECONDS, Query, wait_seconds_of

MAX_PREFER = 1024
"""Longer lines of the header are passed over."""

# What stands between commas that are not in quotes.
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')
_NAME = re.compile(r"\s*([^\s=;,\"]+)")
_WAIT = re.compile(
    r'\s*wait\s*=\s*(?:([0-9]{1,9})|"([0-9]{1,9})")\s*(?:;.*)?',
    re.IGNORECASE | re.ASCII | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Seconds to wait, and the headers that tell the caller so."""

    seconds: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


def wait_of(request: Request, query: Query) -> Wait:
    """What the query says, else what the Prefer header would like, up to 25 s; else not at all.

    PawlError validation_failed for a query that is not 0 to 25; a preference is never refused.
    """
    if "wait" in query:
        return Wait(seconds=wait_seconds_of(query))
    preferred = wait_preference(request.headers.getlist("prefer"))
    if preferred is None:
        return Wait()
    return Wait(seconds=preferred, headers={"Preference-Applied": f"wait={preferred}"})


def wait_preference(lines: Iterable[str]) -> int | None:
    """The seconds to wait that the Prefer header asks for, at most 25; None when it does not.

    Of several preferences of that name the first counts. What is not understood is ignored.
    """
    for text in lines:
        for preference in _PREFERENCE.findall(text) if len(text) <= MAX_PREFER else ():
            name = _NAME.match(preference)
            if name is not None and name[1].lower() == "wait":
                asked = _WAIT.fullmatch(preference)
                return min(int(asked[1] or asked[2]), int(MAX_WAIT_SECONDS)) if asked else None
    return None
