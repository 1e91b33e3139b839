"""docs/asyncapi.yaml is a document of its kind, says what the code says, and refuses the rest."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from libs.bus.topics import ARTIFACT_EVENTS, DAY_SECONDS, DEAD_LETTERS, TASK_EVENTS
from libs.core.errors import FailureCode
from libs.core.lifecycle import TERMINAL, TaskState, may_follow
from libs.pb.pawl.events.v1.events_pb2 import TaskEventData
from services.artifact.consumer import GROUP as ARTIFACT_GROUP
from services.auth.consumer import GROUP as AUTH_GROUP
from services.scheduler.model import EventType
from tests.asyncapi import Published, UndocumentedError, check, check_all, document, resolved

ROOT = Path(__file__).parents[3]
TOPICS_FILE = ROOT / "libs" / "bus" / "topics.toml"
SPECS = "@asyncapi/specs@6.11.1"
SPECS_SHA512 = (
    "A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ=="
)
OTHER_TASK = "01936b2e-0000-7000-8000-000000000001"

Message = dict[str, Any]
Change = Callable[[Message], Any]


@pytest.fixture(scope="module")
def official_schema() -> dict[str, Any]:
    """The schema of the document's version, from the pinned package; it is fetched once."""
    tarball = ROOT / "build" / "asyncapi" / "asyncapi-specs-6.11.1.tgz"
    if not tarball.exists():
        _fetch(tarball.parent)
    digest = hashlib.sha512(tarball.read_bytes()).digest()
    assert base64.b64encode(digest).decode() == SPECS_SHA512, f"{tarball} is not {SPECS}"
    with tarfile.open(tarball) as files:
        member = files.extractfile(f"package/schemas/{document()['asyncapi']}.json")
        assert member is not None
        schema = json.load(member)
    assert isinstance(schema, dict)
    return schema


def _fetch(directory: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"npm, which fetches {SPECS}, is not installed")
    directory.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", SPECS, "--pack-destination", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {SPECS}: {done.stderr.strip()[:300]}")


def _messages() -> dict[str, Message]:
    messages = resolved()["components"]["messages"]
    assert isinstance(messages, dict)
    return messages


def _examples() -> Iterator[tuple[str, Published]]:
    for channel in resolved()["channels"].values():
        for name, message in channel.get("messages", {}).items():
            for example in message.get("examples", ()):
                headers = example["headers"]
                yield (
                    f"{name}.{example['name']}",
                    Published(
                        topic=channel["address"],
                        key=headers["ce_partitionkey"],
                        headers=headers,
                        value=json.dumps(example["payload"]),
                    ),
                )


EXAMPLES = dict(_examples())


def changed(name: str, change: Change) -> Published:
    """An example after `change` of its {headers, value, key, topic}."""
    example = EXAMPLES[name]
    parts: Message = {
        "topic": example.topic,
        "key": example.key,
        "headers": dict(example.headers),
        "value": json.loads(example.value),
    }
    change(parts)
    return Published(
        topic=parts["topic"],
        key=parts["key"],
        headers=parts["headers"],
        value=json.dumps(parts["value"]),
    )


def without(where: str, name: str) -> Change:
    return lambda parts: parts[where].pop(name)


def with_(where: str, name: str, value: object) -> Change:
    return lambda parts: parts[where].update({name: value})


def test_the_document_is_valid(official_schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(official_schema)

    errors = [
        f"{error.instance_path}: {error.message}" for error in validator.iter_errors(document())
    ]

    assert errors == []


def test_the_official_schema_refuses_a_member_that_it_does_not_know(
    official_schema: dict[str, Any],
) -> None:
    broken = copy.deepcopy(document())
    broken["channels"]["taskEvents"]["bindings"]["kafka"]["partition"] = 12

    assert not jsonschema_rs.validator_for(official_schema).is_valid(broken)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_as_the_document_says(name: str) -> None:
    check_all([EXAMPLES[name]])


def test_every_type_of_the_log_has_a_message_of_its_name() -> None:
    sql = (ROOT / "services/scheduler/migrations/0001_create_scheduler.py").read_text("utf-8")
    known = re.search(r"task_events_type_known CHECK \(type IN\s*\(([^)]*)\)", sql)
    assert known is not None
    types = {f"pawl.task.{name}.v1" for name in re.findall(r"'(\w+)'", known[1])}

    names = {name: one["name"] for name, one in _messages().items() if name != "deadLetter"}

    assert set(names.values()) == types == {f"pawl.task.{one}.v1" for one in EventType}
    for name, ce_type in names.items():
        assert _messages()[name]["headers"]["allOf"][1]["properties"]["ce_type"] == {
            "const": ce_type
        }
    assert set(resolved()["channels"]["taskEvents"]["messages"]) == set(names)


def test_the_members_of_the_data_are_the_fields_of_the_proto() -> None:
    members: set[str] = set()
    for name, message in _messages().items():
        if name != "deadLetter":
            members |= _members(message["payload"])

    assert members == {field.name for field in TaskEventData.DESCRIPTOR.fields}


def _members(schema: Message) -> set[str]:
    parts = [_members(one) for one in schema.get("allOf", ())]
    return set(schema.get("properties", {})).union(*parts)


def test_words_are_those_of_the_code() -> None:
    schemas = document()["components"]["schemas"]
    group = document()["operations"]["receiveTaskEvents"]["bindings"]["kafka"]["groupId"]

    assert schemas["FailureCode"]["enum"] == [code.value for code in FailureCode]
    assert schemas["State"]["enum"] == [state.value for state in TaskState]
    assert group["enum"] == [AUTH_GROUP, ARTIFACT_GROUP]


def test_topics_are_those_of_the_code() -> None:
    channels = document()["channels"]

    assert {name: one["address"] for name, one in channels.items()} == {
        "taskEvents": TASK_EVENTS,
        "artifactEvents": ARTIFACT_EVENTS,
        "deadLetters": DEAD_LETTERS,
    }
    assert all(one["bindings"]["kafka"]["topic"] == one["address"] for one in channels.values())


def test_topics_are_those_of_the_reviewed_file() -> None:
    reviewed = tomllib.loads(TOPICS_FILE.read_text(encoding="utf-8"))
    bindings = [one["bindings"]["kafka"] for one in document()["channels"].values()]

    documented = {
        one["topic"]: (one["partitions"], one["topicConfiguration"]["retention.ms"])
        for one in bindings
    }

    assert documented == {
        topic: (one["partitions"], one["kept_days"] * DAY_SECONDS * 1000)
        for topic, one in reviewed.items()
    }


@pytest.mark.parametrize(("before", "after"), list(product(TaskState, TaskState)))
def test_a_transition_is_valid_along_an_edge(before: TaskState, after: TaskState) -> None:
    def change(parts: Message) -> None:
        value = parts["value"]
        value |= {"from_state": before.value, "to_state": after.value}
        value.pop("task_hash")
        if after in TERMINAL:
            value["task_hash"] = "0" * 64
        if after is TaskState.FAILED:
            value["failure_code"] = "TIMEOUT"

    record = changed("statusTransition.succeeded", change)

    if may_follow(before, after):
        check_all([record])
    else:
        with pytest.raises(UndocumentedError):
            check_all([record])


def test_the_end_of_a_cancelled_task_may_say_what_its_killed_step_used() -> None:
    used = {"tokens": 5, "sandbox_ms": 12, "cost_usd": 0.0000024}

    check_all(
        [
            changed(
                "statusTransition.succeeded",
                lambda parts: parts["value"].update(to_state="cancelled", **used),
            ),
            changed("stepFinished.failed", lambda parts: parts["value"].update(used)),
        ]
    )


WRONG: list[tuple[str, Change, str]] = [
    ("stepStarted.step_started", without("headers", "ce_tenant"), "ce_tenant"),
    ("stepStarted.step_started", with_("headers", "ce_new", "1"), "ce_new"),
    ("stepStarted.step_started", with_("headers", "ce_specversion", "0.3"), "ce_specversion"),
    ("stepStarted.step_started", with_("headers", "content-type", "text/plain"), "content-type"),
    ("stepStarted.step_started", with_("headers", "traceparent", "00-1-2-3"), "traceparent"),
    ("stepStarted.step_started", with_("headers", "ce_traceparent", ""), "ce_traceparent"),
    ("stepStarted.step_started", with_("headers", "ce_type", "pawl.task.other.v1"), "other"),
    ("stepStarted.step_started", with_("headers", "ce_sequence", "8"), "ce_sequence is '8'"),
    ("stepStarted.step_started", with_("headers", "ce_subject", OTHER_TASK), "ce_subject is"),
    ("stepStarted.step_started", with_("headers", "ce_tenant", OTHER_TASK), "ce_tenant is"),
    ("stepStarted.step_started", with_("headers", "ce_id", f"{OTHER_TASK}:7"), "ce_id is"),
    ("stepStarted.step_started", lambda parts: parts.update(key=OTHER_TASK), "the key is"),
    ("stepStarted.step_started", lambda parts: parts.update(key="k"), "key: "),
    ("stepStarted.step_started", lambda parts: parts.update(value=[1]), "value: "),
    ("stepStarted.step_started", lambda parts: parts.update(topic=ARTIFACT_EVENTS), "no message"),
    ("stepStarted.step_started", lambda parts: parts.update(topic="pawl.x"), "no topic 'pawl.x'"),
    ("stepStarted.step_started", without("value", "mode"), "mode"),
    ("stepStarted.step_started", without("value", "tool"), "tool"),
    ("stepStarted.step_started", without("value", "from_state"), "from_state"),
    ("stepStarted.step_started", with_("value", "input", {}), "input"),
    ("stepStarted.step_started", with_("value", "step_hash", "0" * 64), "step_hash"),
    ("stepStarted.step_started", with_("value", "seq", "7"), "value.seq"),
    ("stepStarted.step_started", with_("value", "seq", 1), "from_state"),
    ("stepStarted.step_started", with_("value", "to_state", "queued"), "value.to_state"),
    ("stepStarted.step_started", with_("value", "at", "2026-11-28T07:15:46+01:00"), "value.at"),
    ("stepStarted.step_started", with_("value", "at", "2026-11-28T07:15:46Z"), "ce_time is"),
    ("stepFinished.succeeded", without("value", "step_hash"), "step_hash"),
    ("stepFinished.succeeded", with_("value", "failure_code", "TIMEOUT"), "value: "),
    ("stepFinished.failed", without("value", "failure_code"), "failure_code"),
    ("stepFinished.failed", with_("value", "failure_code", "BAD_LUCK"), "BAD_LUCK"),
    ("stepFinished.succeeded", with_("value", "cost_usd", 0), "cost_usd"),
    ("stepFinished.succeeded", with_("value", "cost_usd", "0.1"), "cost_usd"),
    ("stepFinished.succeeded", with_("value", "sandbox_ms", 0), "sandbox_ms"),
    ("stepFinished.succeeded", with_("value", "sandbox_ms", 1.5), "sandbox_ms"),
    ("stepFinished.succeeded", with_("value", "tokens", -1), "tokens"),
    ("stepStarted.step_started", with_("value", "cost_usd", 0.1), "cost_usd"),
    ("statusTransition.succeeded", with_("value", "cost_usd", 0.1), "value: "),
    ("statusTransition.failed", with_("value", "sandbox_ms", 3), "value: "),
    ("statusTransition.created", with_("value", "from_state", "created"), "value: "),
    ("statusTransition.created", with_("value", "to_state", "planned"), "value: "),
    ("statusTransition.created", with_("value", "task_hash", "0" * 64), "value: "),
    ("statusTransition.created", with_("value", "message", "hello"), "message"),
    ("statusTransition.succeeded", without("value", "task_hash"), "task_hash"),
    ("statusTransition.succeeded", with_("value", "failure_code", "TIMEOUT"), "value: "),
    ("statusTransition.failed", without("value", "failure_code"), "failure_code"),
    ("deadLetter.failed_three_times", without("headers", "pawl_reason"), "pawl_reason"),
    ("deadLetter.failed_three_times", with_("headers", "pawl_mood", "bad"), "pawl_mood"),
    ("deadLetter.failed_three_times", with_("headers", "pawl_attempts", "many"), "pawl_attempts"),
]


@pytest.mark.parametrize(("name", "change", "said"), WRONG)
def test_a_record_that_is_not_as_documented_is_refused(
    name: str, change: Change, said: str
) -> None:
    record = changed(name, change)

    with pytest.raises(UndocumentedError, match=re.escape(said)):
        check(record.headers, record.key, record.value.encode(), record.topic)


def test_a_value_that_is_no_json_is_refused() -> None:
    example = EXAMPLES["stepStarted.step_started"]

    with pytest.raises(UndocumentedError, match="not JSON"):
        check(example.headers, example.key, b"\xff{", example.topic)


def test_readers_may_let_pass_what_is_new() -> None:
    message = _messages()["stepStarted"]
    example = message["examples"][0]

    for part in ("headers", "payload"):
        validator = jsonschema_rs.Draft202012Validator(message[part])
        assert validator.is_valid(example[part] | {"new": "1"})
        assert not validator.is_valid({"new": "1"})


def test_check_all_counts_types_and_names_few_of_many_mistakes() -> None:
    good = list(EXAMPLES.values())
    bad = changed("stepStarted.step_started", with_("headers", "ce_new", "1"))

    seen = check_all(good)

    assert seen["pawl.task.status_transition.v1"] == 3
    assert seen[DEAD_LETTERS] == 1
    with pytest.raises(UndocumentedError, match=r"(?s)ce_new.*… and 4 more"):
        check_all([*good, *[bad] * 9])
