"""Trace context, exported or not."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from libs.process.env import ConfigError
from libs.process.tracing import (
    FLUSH_SECONDS,
    configure_tracing,
    fields_of,
    is_traceparent,
    span,
    stop_tracing,
    trace_id_of,
)
from tests.collector import Collector, collector
from tests.waiting import eventually

_ROOT = Path(__file__).resolve().parents[3]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
MALFORMED = (
    "",
    "00-a-b-01",
    SAMPLED.upper(),
    f"{SAMPLED}\n",
    f"01{SAMPLED[2:]}",
    f"00-{'0' * 32}-{SPAN_ID}-01",
    f"00-{TRACE_ID}-{'0' * 16}-01",
)


@pytest.fixture(autouse=True)
def unfiltered_logs() -> None:
    """As at the start of a process: another test may have left a higher level behind."""
    structlog.reset_defaults()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that this process exports to."""
    with collector() as taken:
        monkeypatch.setenv(ENDPOINT, taken.url)
        configure_tracing("probe", {ENDPOINT: taken.url})
        try:
            yield taken
        finally:
            stop_tracing()


def test_a_traceparent_goes_on_as_it_came_when_nothing_is_exported() -> None:
    with span("work", traceparent=SAMPLED) as work:
        assert work.traceparent == SAMPLED


@pytest.mark.parametrize("sent", MALFORMED)
def test_a_trace_that_is_not_sampled_begins_where_none_came(sent: str) -> None:
    made = [span("work", traceparent=sent).traceparent for _ in range(2)]

    assert all(map(is_traceparent, made))
    assert made[0][3:35] != made[1][3:35]
    assert {fields_of(one)[2] for one in made} == {0}


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_traceparent_has_no_trace_id(text: str) -> None:
    assert trace_id_of(text) == ""


def test_trace_id_is_that_of_the_traceparent() -> None:
    assert trace_id_of(SAMPLED) == TRACE_ID


@pytest.mark.parametrize(
    "environ",
    [
        "",
        f"{ENDPOINT}=http://127.0.0.1:1 OTEL_SDK_DISABLED=true",
        f"{ENDPOINT}=http://127.0.0.1:1 OTEL_TRACES_EXPORTER=none",
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=http://127.0.0.1:1",
    ],
)
def test_nothing_is_imported_when_nothing_is_exported(environ: str) -> None:
    program = (
        "import sys; from libs.process.tracing import configure_tracing, span;"
        "configure_tracing('probe', dict(p.split('=') for p in sys.argv[1:]));"
        "span('work', traceparent='').__enter__();"
        "print([name for name in sys.modules if 'opentelemetry' in name or name == 'grpc'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *environ.split()],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
    ],
)
def test_another_way_of_exporting_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is '{text}'"):
        configure_tracing("probe", {ENDPOINT: "http://127.0.0.1:1", name: text})


def test_a_setting_that_the_sdk_cannot_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")

    with pytest.raises(ConfigError, match="soon"):
        configure_tracing("probe", {ENDPOINT: "http://127.0.0.1:1"})


def test_spans_arrive_under_their_parents(taken: Collector) -> None:
    with (
        span(
            "outer", traceparent=SAMPLED, attributes={"pawl.task_id": "t"}, kind="server"
        ) as outer,
        span("inner", traceparent=outer.traceparent) as inner,
    ):
        inner.set("pawl.step_index", 2)
        inner.rename("renamed")
        inner.fail("TOOL_ERROR")
    stop_tracing()

    first, second = taken.spans
    assert (first.name, second.name) == ("renamed", "outer")
    assert {one.trace_id for one in taken.spans} == {TRACE_ID}
    assert (second.parent_id, first.parent_id) == (SPAN_ID, second.span_id)
    assert first.attributes == {"pawl.step_index": 2, "error.type": "TOOL_ERROR"}
    assert second.attributes == {"pawl.task_id": "t"}
    assert (first.failed, second.failed) == (True, False)
    assert {one.service for one in taken.spans} == {"pawl-probe"}
    assert outer.traceparent == f"00-{TRACE_ID}-{second.span_id}-01"


def test_a_trace_begins_sampled_when_it_is_exported(taken: Collector) -> None:
    with span("work", traceparent="malformed") as work:
        pass
    stop_tracing()

    (only,) = taken.spans
    assert (only.parent_id, only.trace_id) == ("", trace_id_of(work.traceparent))
    assert fields_of(work.traceparent)[2] & 1


def test_what_the_caller_does_not_sample_is_not_exported(taken: Collector) -> None:
    with span("work", traceparent=f"{SAMPLED[:-2]}00") as work:
        pass
    stop_tracing()

    assert taken.spans == []
    assert (trace_id_of(work.traceparent), work.traceparent[-2:]) == (TRACE_ID, "00")


def test_raising_ends_a_span_and_says_nothing_of_the_error(taken: Collector) -> None:
    with pytest.raises(RuntimeError), span("work", traceparent=SAMPLED):
        raise RuntimeError("secret detail")
    stop_tracing()

    (only,) = taken.spans
    assert (only.attributes, only.failed) == ({}, False)


def test_after_the_stop_traceparents_still_go_on(taken: Collector) -> None:
    stop_tracing()

    assert span("work", traceparent=SAMPLED).traceparent == SAMPLED
    assert taken.spans == []


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_collector_that_hangs_holds_up_neither_work_nor_the_stop_for_long(
    monkeypatch: pytest.MonkeyPatch, silent_port: int
) -> None:
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{silent_port}")
    configure_tracing("probe", {ENDPOINT: "as above"})

    began = time.monotonic()
    for _ in range(1_000):
        with span("work", traceparent=SAMPLED):
            pass
    worked = time.monotonic()
    stop_tracing()

    assert worked - began < 1
    assert FLUSH_SECONDS <= time.monotonic() - worked < FLUSH_SECONDS + 0.5


async def test_a_dead_collector_is_said_once_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    configure_tracing("probe", {ENDPOINT: "as above"})
    request.addfinalizer(stop_tracing)

    with capture_logs() as logs:
        with span("work", traceparent=SAMPLED):
            pass
        await eventually(lambda: logs, timeout=20)
        for _ in range(5_000):
            with span("work", traceparent=SAMPLED):
                pass
        began = time.monotonic()
        stop_tracing()
        took = time.monotonic() - began

    assert [one["event"] for one in logs] == ["spans cannot be exported"]
    assert logs[0]["error"]
    assert took < FLUSH_SECONDS


async def test_a_collector_that_comes_back_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
    configure_tracing("probe", {ENDPOINT: "as above"})

    with capture_logs() as logs:
        with span("lost", traceparent=SAMPLED):
            pass
        await eventually(lambda: logs)
        with collector(port=port) as taken:

            def arrives() -> bool:
                with span("kept", traceparent=SAMPLED):
                    pass
                return bool(taken.spans)

            await eventually(arrives, timeout=20)
            await eventually(lambda: len(logs) > 1)
            stop_tracing()

    assert [one["event"] for one in logs] == [
        "spans cannot be exported",
        "spans are exported again",
    ]
