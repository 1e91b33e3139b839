"""The agents and definitions that a key is bound to, and which such lists it may pass on."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from libs.core.errors import FieldError
from libs.core.ids import parse_id
from services.auth.model import AllowList
from services.auth.wording import shown

MAX_IDS = 100
AGENTS = "allowed_agent_ids"
DEFINITIONS = "allowed_task_ids"

_PREFIXES = {AGENTS: "agent_", DEFINITIONS: "task_"}
_MAX_ERRORS = 10


def list_errors(field: str, texts: Sequence[str] | None) -> list[FieldError]:
    """What is wrong with the list of that name; None means that none was given and is fine."""
    if texts is None:
        return []
    if len(texts) > MAX_IDS:
        detail = f"it has {len(texts)} ids; at most {MAX_IDS} are allowed"
        return [FieldError(field=field, code="out_of_range", detail=detail)]
    return [
        FieldError(
            field=f"{field}[{index}]", code="invalid_format", detail=f"{shown(text)} is not a UUID"
        )
        for index, text in enumerate(texts)
        if parse_id(text, prefix=_PREFIXES[field]) is None
    ][:_MAX_ERRORS]


def given_or_own(
    field: str, texts: Sequence[str] | None, *, own: frozenset[str] | None
) -> AllowList:
    """The list of a new key, each id once: what was asked for, in its order, else the list of the
    caller's key. The texts have passed `list_errors`.
    """
    if texts is None:
        return None if own is None else tuple(UUID(text) for text in sorted(own))
    ids = (parse_id(text, prefix=_PREFIXES[field]) for text in texts)
    return tuple(dict.fromkeys(one for one in ids if one is not None))


def beyond(wanted: AllowList, *, own: frozenset[str] | None) -> str:
    """What a list would allow that the caller's key may not use, for a refusal; empty: nothing."""
    if own is None:
        return ""
    if wanted is None:
        return "all"
    return ", ".join([str(one) for one in wanted if str(one) not in own][:_MAX_ERRORS])


def texts_of(ids: AllowList) -> frozenset[str] | None:
    """The list as a caller token carries it."""
    return None if ids is None else frozenset(str(one) for one in ids)
