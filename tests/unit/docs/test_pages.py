"""The pages in docs/ name files that exist and say of states what the code says."""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import product
from pathlib import Path

import pytest

from libs.core.lifecycle import TaskState, may_follow
from libs.core.tiers import TIERS
from services.auth.scopes import ALLOWED, GRANTABLE

_ROOT = Path(__file__).parents[3]
_PAGES = [_ROOT / "README.md", _ROOT / "protos" / "README.md", *(_ROOT / "docs").rglob("*.md")]
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
_PATH = re.compile(r"`((?:libs|services|gateway|tests|bench|protos|docs)/[\w./-]*)`")


def _table() -> dict[tuple[str, str], bool]:
    lines = (_ROOT / "docs" / "lifecycle.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    head = [cell.strip() for cell in rows[0].split("|")[2:-1]]
    table: dict[tuple[str, str], bool] = {}
    for row in rows[2 : 2 + len(head)]:
        before, *cells = (cell.strip() for cell in row.split("|")[1:-1])
        table |= {(before, after): cell == "yes" for after, cell in zip(head, cells, strict=True)}
    return table


@pytest.mark.parametrize(("before", "after"), list(product(TaskState, TaskState)))
def test_the_page_of_states_says_what_the_code_says(before: TaskState, after: TaskState) -> None:
    assert _table()[before.value, after.value] is may_follow(before, after)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in _LINK.findall(text)]
    paths = [_ROOT / path for path in _PATH.findall(text)]

    assert [str(path) for path in (*links, *paths) if not path.exists()] == []


def test_the_page_of_accounts_has_the_table_of_roles() -> None:
    lines = (_ROOT / "docs" / "accounts.md").read_text(encoding="utf-8").splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("| scope |"))
    roles = [cell.strip() for cell in lines[head].split("|")[3:-1]]
    said: dict[str, set[str]] = {role: set() for role in roles}
    for line in lines[head + 2 : head + 2 + len(GRANTABLE)]:
        scope, _, *cells = (cell.strip() for cell in line.split("|")[1:-1])
        for role, cell in zip(roles, cells, strict=True):
            said[role] |= {scope.strip("`")} if cell == "yes" else set()

    assert said == ALLOWED


def test_the_page_of_limits_has_the_numbers_of_the_tiers() -> None:
    lines = (_ROOT / "docs" / "limits.md").read_text(encoding="utf-8").splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("| limit | free"))
    tiers = [cell.strip() for cell in lines[head].split("|")[2:-1]]
    said: dict[str, dict[str, str]] = {tier: {} for tier in tiers}
    for line in lines[head + 2 :]:
        if not line:
            break
        limit, *cells = (cell.strip() for cell in line.split("|")[1:-1])
        for tier, cell in zip(tiers, cells, strict=True):
            said[tier][limit.strip("`")] = cell

    assert said == {
        tier: {name: "–" if most is None else f"{most:,}" for name, most in asdict(limits).items()}
        for tier, limits in TIERS.items()
    }
