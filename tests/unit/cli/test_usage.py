"""`pawl usage`: sums and a chart for people, CSV and JSON for programs."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from tests.unit.cli.conftest import Pawl
from tests.unit.cli.fake_server import FakeServer

ACCOUNT: dict[str, Any] = {
    "user_id": 42,
    "email": "eng@example.com",
    "plan": "pro",
    "monthly_requests": 1643,
    "monthly_task_executions": 12,
    "total_usage_usd": 0.0430804,
    "rate_limit_per_minute": 120,
    "max_timeout_seconds": 60,
    "max_tasks_per_request": 1,
    "active_tasks": 2,
    "month": "2026-02",
    "resets_at": "2026-03-01T00:00:00.000000+00:00",
    "monthly_requests_limit": 100_000,
    "monthly_steps": 36,
    "monthly_sandbox_seconds": 71.402,
    "monthly_tokens": 30,
}
ACCOUNT_PATH = "GET /api/v1/tasks/usage"
CSV = b"day,requests,tasks\r\n2026-02-01,4,1\r\n"


def make_day(number: int, **members: Any) -> dict[str, Any]:
    day = {
        "day": f"2026-02-{number:02}",
        "requests": 0,
        "tasks": 0,
        "steps": 0,
        "sandbox_seconds": 0.0,
        "tokens": 0,
        "cost_usd": 0.0,
    }
    return day | members


def answer(fake: FakeServer, *days: dict[str, Any], **account: Any) -> dict[str, Any]:
    listed = {"from": "2026-02-01", "to": "2026-02-28", "total": {}, "data": list(days)}
    fake.json(ACCOUNT_PATH, ACCOUNT | account)
    fake.json("GET /v1/usage", listed)
    return listed


def chart_of(out: str) -> list[str]:
    """The lines of the chart below its head."""
    lines = out.splitlines()
    (head,) = (n for n, line in enumerate(lines) if line.startswith("Day (UTC)"))
    return lines[head + 1 :]


def test_sums_and_limits_are_shown(pawl: Pawl, fake: FakeServer) -> None:
    answer(fake, make_day(1))

    done = pawl("usage")

    assert done.code == 0
    rows = [line.split("│")[1:3] for line in done.out.splitlines() if line.count("│") == 3]
    assert {name.strip(): value.strip() for name, value in rows} == {
        "account": "eng@example.com (user 42)",
        "plan": "pro",
        "requests a minute": "120",
        "seconds a task": "60",
        "tasks a request": "1",
        "active tasks": "2",
        "requests": "1,643 of 100,000",
        "tasks": "12",
        "steps": "36",
        "in the sandbox": "71.4 s",
        "model tokens": "30",
        "cost": "0.0430804 USD",
        "counts until": "2026-03-01, 00:00 UTC",
    }


def test_unlimited_is_said(pawl: Pawl, fake: FakeServer) -> None:
    answer(fake, rate_limit_per_minute=None, monthly_requests_limit=None)

    out = pawl("usage").out

    assert "unlimited" in out
    assert "1,643 of" not in out


def test_chart_has_a_bar_for_each_day_within_80_columns(
    pawl: Pawl, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    days = [make_day(n) for n in range(1, 29)]
    days[0] |= {"tasks": 1, "cost_usd": 0.02}
    days[1] |= {"tasks": 1_234_567, "cost_usd": 0.04}
    days[2] |= {"tasks": 1, "cost_usd": 0.0000001}
    answer(fake, *days)

    out = pawl("usage").out

    assert max(len(line) for line in out.splitlines()) <= 80
    assert "\x1b" not in out
    chart = chart_of(out)
    assert len(chart) == 28
    assert chart[0] == f"2026-02-01 {'█' * 18:<36} {'0.02':>11} {'1':>9}"
    assert chart[1] == f"2026-02-02 {'█' * 36:<36} {'0.04':>11} {'1,234,567':>9}"
    assert chart[2] == f"2026-02-03 {'▏':<36} {'0.0000001':>11} {'1':>9}"
    assert chart[3] == f"2026-02-04 {'':<36} {'0':>11} {'0':>9}"


def test_chart_shows_tasks_where_nothing_costs_anything(pawl: Pawl, fake: FakeServer) -> None:
    answer(fake, make_day(1, tasks=4), make_day(2, tasks=1), make_day(3))

    out = pawl("usage").out

    assert "tasks of the day" in out
    assert [line.count("█") for line in chart_of(out)] == [36, 9, 0]


def test_chart_on_a_terminal_without_unicode_is_of_signs(
    pawl: Pawl, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(fake, make_day(1, cost_usd=1.0), make_day(2, cost_usd=0.001))
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))

    pawl("usage")

    sys.stdout.flush()
    chart = chart_of(shown.getvalue().decode("ascii"))
    assert [line.count("#") for line in chart] == [36, 1]


def test_month_is_asked_for_day_by_day(pawl: Pawl, fake: FakeServer) -> None:
    days = {"from": "2024-02-01", "to": "2024-02-29", "total": {}, "data": []}
    fake.json(f"{ACCOUNT_PATH}?month=2024-02", ACCOUNT)
    fake.json("GET /v1/usage?from=2024-02-01&to=2024-02-29", days)

    done = pawl("usage", "--month", "2024-02", "--json")

    assert json.loads(done.out) == {"account": ACCOUNT, "days": days}


def test_csv_is_what_the_server_says(pawl: Pawl, fake: FakeServer) -> None:
    fake.raw("GET /v1/usage?format=csv", CSV, kind="text/csv")

    done = pawl("usage", "--csv")

    assert (done.code, done.out.encode()) == (0, CSV)
    assert [asked.path for asked in fake.asked] == ["/v1/usage?format=csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--month", "2026-13"), "--month is '2026-13'; it is written YYYY-MM"),
        (("--month", "May"), "it is written YYYY-MM"),
        (("--month", "0000-01"), "it is written YYYY-MM"),
        (("--csv", "--json"), "give one"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    pawl: Pawl, fake: FakeServer, arguments: tuple[str, ...], said: str
) -> None:
    done = pawl("usage", *arguments)

    assert done.code == 2
    assert said in done.err
    assert fake.asked == []


def test_refusal_of_the_server_is_said(pawl: Pawl, fake: FakeServer) -> None:
    problem = {"code": "insufficient_scope", "detail": "this needs the scope tasks:read"}
    fake.json(ACCOUNT_PATH, problem, status=403)

    done = pawl("usage")

    assert done.code == 2
    assert "this needs the scope tasks:read" in done.err
