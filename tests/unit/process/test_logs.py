from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from libs.process.logs import REDACTED, configure_logs, get_logger, redact

KEY = "pawl_live_0123456789abcdefghijABCDEFGHIJ01AbCdEf"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is one per process: put it back."""
    handlers, level = logging.root.handlers, logging.root.level
    yield
    logging.root.handlers, logging.root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_line_is_json_with_time_level_service_and_what_is_bound(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("auth")
    structlog.contextvars.bind_contextvars(request_id="r-1")

    get_logger("services.auth.service").info("key created", count=3)

    (line,) = lines(capsys)
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "key created",
        "level": "info",
        "service": "auth",
        "module": "services.auth.service",
        "request_id": "r-1",
        "count": 3,
    }


def test_lines_of_libraries_look_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("auth")

    logging.getLogger("asyncio").warning("task %s was slow", "x")
    logging.getLogger("asyncio").info("not of interest")

    (line,) = lines(capsys)
    assert line["event"] == "task x was slow"
    assert line["module"] == "asyncio"
    assert line["service"] == "auth"


def test_full_disk_takes_lines_and_not_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - it cannot be closed well
    monkeypatch.setattr(sys, "stderr", full)
    configure_logs("auth")

    get_logger("x").warning("not kept")
    logging.getLogger("asyncio").warning("not kept")

    with pytest.raises(OSError, match="No space left"):
        full.close()


@pytest.mark.parametrize("value", ["a lone \ud800", 2**70])
def test_what_json_has_no_word_for_is_said_all_the_same(
    capsys: pytest.CaptureFixture[str], value: object
) -> None:
    configure_logs("auth")

    get_logger("x").warning("odd", value=value)

    (line,) = lines(capsys)
    assert line["event"] == "odd"
    assert line["value"] == value


def test_level_decides_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("auth", level="error")

    get_logger("x").warning("not said")
    get_logger("x").error("said")

    assert [line["event"] for line in lines(capsys)] == ["said"]


def test_traceback_stands_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("auth")

    try:
        raise ValueError(f"bad key {KEY}")
    except ValueError:
        get_logger("x").exception("call failed")

    (line,) = lines(capsys)
    assert "ValueError: bad key" in line["exception"]
    assert KEY not in line["exception"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("authorization", "Bearer x"),
        ("Authorization", "Basic eDp5"),
        ("webhook_secret", "x"),
        ("password", "hunter2"),
        ("api_key", KEY),
        ("caller_token", "a" * 40),
        ("cookie", "session=1"),
    ],
)
def test_secret_fields_are_redacted_by_name(name: str, value: str) -> None:
    assert redact(None, "info", {name: value}) == {name: REDACTED}


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        "ra_test_0123456789abcdefghijABCDEFGHIJ01AbCdEf",
        "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJhdXRoIn0.c2lnbmF0dXJl",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ],
)
def test_secret_text_is_redacted_wherever_it_stands(secret: str) -> None:
    event = {"event": f"refused {secret} twice", "list": [f"x {secret}"], "map": {"a": secret}}

    assert secret not in json.dumps(redact(None, "info", event))


def test_password_of_an_address_is_redacted() -> None:
    text = "cannot reach postgresql://pawl_auth:p4ss@db:5432/pawl and password=p4ss"

    redacted = redact(None, "info", {"event": text})["event"]

    assert "p4ss" not in redacted
    assert "@db:5432/pawl" in redacted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key_id", "0192f0c1-7b7a-7cc0-8000-0123456789ab"),
        ("lease_token", 7),
        ("key", "daily-report"),
        ("tokens_used", 12),
        ("event", "task claimed"),
    ],
)
def test_ordinary_fields_stay(name: str, value: object) -> None:
    assert redact(None, "info", {name: value}) == {name: value}
