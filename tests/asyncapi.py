"""docs/asyncapi.yaml as the judge of records: each must be as it says, and say nothing more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import jsonschema_rs
import yaml

from libs.bus.bus import BusRecord
from libs.bus.topics import DEAD_LETTERS

PAGE = Path(__file__).parents[1] / "docs" / "asyncapi.yaml"
MOST_SAID = 5
"""How many mistakes a message names."""


class UndocumentedError(AssertionError):
    """A record that is not as the document says, or says what the document does not know of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A record as it was read from a topic, whatever the driver. `topic` is without a prefix."""

    topic: str
    key: str
    headers: Mapping[str, str]
    value: str

    @classmethod
    def of(cls, record: BusRecord) -> Self:
        """A record of the bus."""
        headers = json.loads(record.headers)
        return cls(topic=record.topic, key=record.key, headers=headers, value=record.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """The validators of one message, closed to what is not documented. No `payload`: any bytes."""

    headers: jsonschema_rs.Validator
    payload: jsonschema_rs.Validator | None
    key: jsonschema_rs.Validator


def check(record_headers: Mapping[str, str], key: str, value_bytes: bytes, topic: str) -> None:
    """UndocumentedError when a record is not as documented."""
    _refuse(f"{topic} {key}: {one}" for one in _mistakes(record_headers, key, value_bytes, topic))


def check_all(records: Iterable[Published]) -> Counter[str]:
    """Check every record; how many there are of each type. A dead letter counts under its topic."""
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for record in records:
        mistakes = _mistakes(record.headers, record.key, record.value.encode(), record.topic)
        wrong += [f"{record.topic} {record.key}: {one}" for one in mistakes]
        is_letter = record.topic == DEAD_LETTERS
        seen[record.topic if is_letter else record.headers.get("ce_type", "")] += 1
    _refuse(wrong)
    return seen


@cache
def document() -> dict[str, Any]:
    """The document as it stands."""
    loaded = yaml.safe_load(PAGE.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


@cache
def resolved() -> dict[str, Any]:
    """The document with what its references point to in their place."""
    whole = _resolve(document(), ())
    assert isinstance(whole, dict)
    return whole


def compiled(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    """A validator that reads formats and fetches nothing."""
    return jsonschema_rs.Draft202012Validator(
        schema, validate_formats=True, retriever=_refuse_remote
    )


def _resolve(node: Any, above: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_resolve(one, above) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" not in node:
        return {name: _resolve(one, above) for name, one in node.items()}
    reference = node["$ref"]
    assert list(node) == ["$ref"], f"a reference with neighbours: {node}"
    assert reference.startswith("#/"), f"{reference} is not in this document"
    assert reference not in above, f"{reference} leads back to itself"
    target: Any = document()
    for part in reference[2:].split("/"):
        target = target[part]
    return _resolve(target, (*above, reference))


def _mistakes(headers: Mapping[str, str], key: str, value: bytes, topic: str) -> list[str]:
    messages = _messages(topic)
    message = messages.get(headers.get("ce_type", ""))
    if message is None and len(messages) == 1:
        (message,) = messages.values()
    if message is None:
        return [f"the topic has no message {headers.get('ce_type')!r}"]
    wrong = _wrong(message.key, key, "key") + _wrong(message.headers, dict(headers), "headers")
    if message.payload is None:
        return wrong
    try:
        data = json.loads(value)
    except ValueError as error:
        return [*wrong, f"value: not JSON: {error}"]
    wrong += _wrong(message.payload, data, "value")
    return wrong or _disagreements(headers, key, data)


def _refuse(wrong: Iterable[str]) -> None:
    mistakes = list(wrong)
    if mistakes:
        more = len(mistakes) - MOST_SAID
        said = mistakes[:MOST_SAID] + ([f"… and {more} more"] if more > 0 else [])
        raise UndocumentedError("not as in docs/asyncapi.yaml:\n" + "\n".join(said))


@cache
def _messages(topic: str) -> dict[str, _Message]:
    for channel in resolved()["channels"].values():
        if channel["address"] == topic:
            messages = channel.get("messages", {}).values()
            return {message["name"]: _compile(message) for message in messages}
    raise UndocumentedError(f"docs/asyncapi.yaml knows no topic {topic!r}")


def _compile(message: dict[str, Any]) -> _Message:
    payload = message["payload"]
    return _Message(
        headers=compiled(_closed(message["headers"])),
        payload=compiled(_closed(payload)) if "allOf" in payload else None,
        key=compiled(message["bindings"]["kafka"]["key"]),
    )


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The document is open, because readers must let pass what is new; what is published may not be
    new to it.
    """
    return {"allOf": [schema], "unevaluatedProperties": False}


def _wrong(validator: jsonschema_rs.Validator, value: object, where: str) -> list[str]:
    return [
        ".".join([where, *map(str, error.instance_path)]) + f": {error.message}"
        for error in validator.iter_errors(value)
    ]


def _disagreements(headers: Mapping[str, str], key: str, value: Mapping[str, Any]) -> list[str]:
    """What is said twice must be the same; JSON Schema cannot say so."""
    task, seq = value["task_id"], value["seq"]
    pairs = {
        "the key": (key, task),
        "ce_id": (headers["ce_id"], f"{task}:{seq}"),
        "ce_subject": (headers["ce_subject"], task),
        "ce_partitionkey": (headers["ce_partitionkey"], task),
        "ce_sequence": (headers["ce_sequence"], str(seq)),
        "ce_tenant": (headers["ce_tenant"], value["tenant_id"]),
        "ce_time": (headers["ce_time"], value["at"]),
    }
    return [
        f"{name} is {said!r}; the value says {meant!r}"
        for name, (said, meant) in pairs.items()
        if said != meant
    ]


def _refuse_remote(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched: the document refers only to itself")
