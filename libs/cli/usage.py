"""`pawl usage`: who asks, what the account may use, what it used, and a bar for each day."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.cli.client import Client
from libs.cli.output import console, day_text, plain, print_json, print_line, record
from libs.cli.run import BadArgument
from libs.core.prices import usd_text

ACCOUNT_PATH = "/api/v1/tasks/usage"
DAYS_PATH = "/v1/usage"
MAX_CHART = 10_000

_MONTH = re.compile(r"(?!0000)([0-9]{4})-(0[1-9]|1[0-2])", re.ASCII)
_BAR_CELLS = 36
_REST_CELLS = 34
"""What a line of the chart has beside its bar, at most."""
_EIGHTHS = " ▏▎▍▌▋▊▉"


def show_usage(client: Client, *, month: str | None, as_csv: bool, as_json: bool) -> int:
    """Print what the account used in a month (YYYY-MM in UTC; None: the current one, until today):
    people get sums and a chart, --csv the server's table of days, --json both answers; 0.

    Raises BadArgument for what is no month, and for both formats at once.
    """
    if as_csv and as_json:
        raise BadArgument("--csv and --json are two formats; give one")
    days_of_month = {} if month is None else _days_of(month)
    if as_csv:
        table = client.text(DAYS_PATH, {**days_of_month, "format": "csv"})
        print_line(table.removesuffix("\n"))
        return 0
    account = client.get(ACCOUNT_PATH, {"month": month})
    days = client.get(DAYS_PATH, days_of_month)
    if as_json:
        print_json({"account": account, "days": days})
    else:
        out = console()
        out.print(_sums(account))
        out.print(_chart(days["data"], out))
    return 0


def _days_of(month: str) -> dict[str, str]:
    found = _MONTH.fullmatch(month)
    if found is None:
        raise BadArgument(f"--month is {month[:40]!r}; it is written YYYY-MM")
    last = monthrange(int(found[1]), int(found[2]))[1]
    return {"from": f"{month}-01", "to": f"{month}-{last}"}


def _sums(account: dict[str, Any]) -> Table:
    requests = _count(account["monthly_requests"])
    if account["monthly_requests_limit"] is not None:
        requests += f" of {_count(account['monthly_requests_limit'])}"
    members: list[tuple[str, object]] = [
        ("account", f"{account['email']} (user {account['user_id']})"),
        ("plan", account["plan"]),
        ("requests a minute", _limit(account["rate_limit_per_minute"])),
        ("seconds a task", _limit(account["max_timeout_seconds"])),
        ("tasks a request", _limit(account["max_tasks_per_request"])),
        ("active tasks", _count(account["active_tasks"])),
        ("requests", requests),
        ("tasks", _count(account["monthly_task_executions"])),
        ("steps", _count(account["monthly_steps"])),
        ("in the sandbox", f"{account['monthly_sandbox_seconds']:,.1f} s"),
        ("model tokens", _count(account["monthly_tokens"])),
        ("cost", f"{usd_text(account['total_usage_usd'])} USD"),
    ]
    if account["resets_at"] is not None:
        members.append(("counts until", f"{day_text(account['resets_at'])}, 00:00 UTC"))
    return record(f"Usage in {account['month']}", members)


def _chart(days: Sequence[dict[str, Any]], out: Console) -> Text:
    """A bar for each day: its cost, or its tasks where nothing cost anything."""
    name = "cost_usd" if any(day["cost_usd"] for day in days) else "tasks"
    most = max((day[name] for day in days), default=0)
    cells = max(8, min(_BAR_CELLS, out.width - _REST_CELLS))
    is_plain = not out.encoding.startswith("utf")
    lines = [
        f"{day['day']} {_bar(day[name], most, cells, is_plain=is_plain):<{cells}}"
        f" {usd_text(day['cost_usd']):>11} {_count(day['tasks']):>9}"
        for day in days
    ]
    title = "cost" if name == "cost_usd" else "tasks"
    head = f"{'Day (UTC)':<10} {title + ' of the day':<{cells}} {'USD':>11} {'tasks':>9}"
    chart = plain("\n".join([head, *lines]), limit=MAX_CHART)
    chart.no_wrap, chart.overflow = True, "ignore"
    chart.stylize("dim", 0, len(head))
    return chart


def _bar(amount: float, most: float, cells: int, *, is_plain: bool) -> str:
    """So much of `cells` as `amount` is of `most`; whatever is not nothing is seen."""
    if amount <= 0:
        return ""
    if is_plain:
        return "#" * max(1, round(cells * amount / most))
    eighths = max(1, round(8 * cells * amount / most))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8]).strip()


def _limit(value: float | None) -> str:
    return "unlimited" if value is None else _count(value)


def _count(value: float) -> str:
    return f"{value:,}"
