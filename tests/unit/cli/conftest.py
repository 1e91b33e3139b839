"""The command line, called in this process against a fake server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from libs.cli.__main__ import main
from tests.unit.cli.fake_server import FakeServer, fake_server


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


Pawl = Callable[..., Outcome]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def pawl(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Pawl:
    """Calls `pawl ARGS…` with PAWL_URL and PAWL_API_KEY of the fake server."""
    monkeypatch.setenv("PAWL_URL", fake.url)
    monkeypatch.setenv("PAWL_API_KEY", "pawl_test_key")
    monkeypatch.setenv("COLUMNS", "160")

    def call(*args: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pawl", *args])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        code = left.value.code
        return Outcome(
            code=code if isinstance(code, int) else 0, out=captured.out, err=captured.err
        )

    return call
