from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Counter

from libs.process.metrics import serve_metrics, set_ready


def get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(scope="module")
def port(registry: CollectorRegistry) -> int:
    return serve_metrics("127.0.0.1:0", registry=registry)


@pytest.fixture(autouse=True)
def not_ready() -> Iterator[None]:
    set_ready(False)
    yield
    set_ready(False)


def test_metrics_are_exposed(port: int, registry: CollectorRegistry) -> None:
    Counter("pawl_calls", "Calls.", registry=registry).inc(3)

    status, body = get(port, "/metrics")

    assert status == 200
    assert "pawl_calls_total 3.0" in body


def test_healthz_says_whether_it_serves(port: int) -> None:
    before = get(port, "/healthz")
    set_ready(True)
    after = get(port, "/healthz")

    assert before == (503, "not serving\n")
    assert after == (200, "serving\n")


def test_other_paths_are_not_found(port: int) -> None:
    assert get(port, "/") == (404, "not found\n")


def test_taken_address_is_an_error(port: int) -> None:
    with pytest.raises(OSError, match="in use"):
        serve_metrics(f"127.0.0.1:{port}")
