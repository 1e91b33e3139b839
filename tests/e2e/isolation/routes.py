"""Every route: what it needs, what it names, and what those are told who may not.

A new route has to have its row here, or test_isolated_routes.py fails.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

SUM: dict[str, Any] = {"task_definition": {"expression": "1+1"}}
OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One route. `$TASK`, `$KEY`, … in path and body name a thing of the account that is asked for;
    those of KEY, USER, WAITING and NEW are made for each request.

    `scopes`: all that it needs; None: not even a key. `own` and `other`: the status that a key of
    the account is answered with, and a key of another account that may do as much there;
    `other_code` if that is a refusal. `test`: where a key in test mode is refused.
    """

    method: str
    path: str
    scopes: tuple[str, ...] | None
    body: Any = None
    own: int = 200
    other: int = 404
    other_code: str = "not_found"
    test: int | None = None
    shows: bool = True
    """Whether the own answer has something in it that only the account may see."""
    writes: bool = False
    """Whether a key that only reads is refused."""

    @property
    def template(self) -> str:
        """As the application spells the path."""
        return "/".join(TEMPLATES.get(part, part) for part in self.path.split("/"))

    @property
    def id(self) -> str:
        """For people."""
        return f"{self.method} {self.template}"


TEMPLATES = {
    "$TASK": "{task_id}",
    "$WAITING": "{task_id}",
    "$TENANT": "{tenant}",
    "$KEY": "{key_id}",
    "$USER": "{number}",
}

READ, WRITE = ("tasks:read",), ("tasks:write",)
ROUTES: tuple[Row, ...] = (
    Row(method="GET", path="/api/v1/tasks/usage", scopes=READ, other=200),
    Row(method="GET", path="/v1/usage", scopes=READ, other=200, shows=False),
    Row(
        method="POST",
        path="/api/v1/tasks/execute",
        scopes=WRITE,
        body=SUM,
        other=200,
        shows=False,
        writes=True,
    ),
    Row(
        method="POST",
        path="/api/v1/tasks/batch",
        scopes=WRITE,
        body={"tasks": [SUM, SUM]},
        other=200,
        shows=False,
        writes=True,
    ),
    Row(
        method="POST",
        path="/api/v1/tasks/$TASK/replay",
        scopes=("tasks:write", "tasks:read"),
        body={},
        shows=False,
        writes=True,
    ),
    Row(method="GET", path="/api/v1/tasks", scopes=READ, other=200),
    Row(method="GET", path="/api/v1/tasks/$TASK", scopes=READ),
    Row(method="GET", path="/api/v1/tasks/$TASK/trace", scopes=READ),
    Row(method="GET", path="/api/v1/tasks/$TASK/events", scopes=READ),
    Row(method="POST", path="/v1/tasks/$WAITING/cancel", scopes=WRITE, body={}, writes=True),
    Row(method="GET", path="/v1/events", scopes=READ, other=200),
    Row(
        method="POST",
        path="/v1/events/replay",
        scopes=(OPERATOR,),
        body={"task_id": "$TASK"},
        other=403,
        other_code="insufficient_scope",
        shows=False,
        writes=True,
    ),
    Row(
        method="POST",
        path="/v1/tenants",
        scopes=(OPERATOR,),
        body={"name": "$NEW", "tier": "free"},
        own=201,
        other=403,
        other_code="insufficient_scope",
        shows=False,
        writes=True,
    ),
    Row(
        method="GET",
        path="/v1/tenants",
        scopes=(OPERATOR,),
        other=403,
        other_code="insufficient_scope",
    ),
    Row(
        method="GET",
        path="/v1/tenants/$TENANT",
        scopes=("keys:read",),
        other=403,
        other_code="insufficient_scope",
    ),
    Row(
        method="PATCH",
        path="/v1/tenants/$TENANT",
        scopes=(OPERATOR,),
        body={"tier": "enterprise"},
        other=403,
        other_code="insufficient_scope",
        writes=True,
    ),
    Row(
        method="POST",
        path="/v1/keys",
        scopes=("keys:write",),
        body={"name": "$NEW", "mode": "test"},
        own=201,
        other=201,
        writes=True,
    ),
    Row(method="GET", path="/v1/keys", scopes=("keys:read",), other=200),
    Row(method="GET", path="/v1/keys/$KEY", scopes=("keys:read",)),
    Row(
        method="POST",
        path="/v1/keys/$KEY/rotate",
        scopes=("keys:write",),
        body={},
        own=201,
        test=403,
        writes=True,
    ),
    Row(method="DELETE", path="/v1/keys/$KEY", scopes=("keys:write",), test=403, writes=True),
    Row(
        method="POST",
        path="/v1/users",
        scopes=("users:write",),
        body={"email": "$NEW@example.org", "role": "member"},
        own=201,
        other=201,
        test=403,
        writes=True,
    ),
    Row(method="GET", path="/v1/users", scopes=("users:read",), other=200),
    Row(
        method="PATCH",
        path="/v1/users/$USER",
        scopes=("users:write",),
        body={"role": "viewer"},
        test=403,
        writes=True,
    ),
    Row(method="DELETE", path="/v1/users/$USER", scopes=("users:write",), test=403, writes=True),
    Row(method="GET", path="/v1/audit", scopes=("audit:read",), other=200),
    Row(method="GET", path="/v1/tools", scopes=(), other=200, shows=False),
    Row(method="GET", path="/healthz", scopes=None, other=200, shows=False),
    Row(method="GET", path="/readyz", scopes=None, other=200, shows=False),
    Row(method="GET", path="/dashboard", scopes=None, other=200, shows=False),
    Row(method="GET", path="/billing", scopes=None, other=200, shows=False),
    Row(method="GET", path="/openapi.json", scopes=None, other=200, shows=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detour:
    """A way to name a thing of another account that is not the route's path."""

    method: str
    path: str
    body: Any = None
    statuses: frozenset[int]

    @property
    def kinds(self) -> list[str]:
        """What it names, once each."""
        return sorted(set(re.findall(r"[$#]([A-Z_]+)", self.path + json.dumps(self.body))))

    @property
    def id(self) -> str:
        """For people."""
        return f"{self.method} {self.path} {self.body or ''}".strip()


REFUSED = frozenset({403, 404, 422})
DETOURS: tuple[Detour, ...] = (
    *(
        Detour(method="GET", path=f"/v1/{kind}?tenant={tenant}", statuses=frozenset({403}))
        for kind in ("keys", "users", "audit")
        for tenant in ("$TENANT", "$TENANT_ID")
    ),
    Detour(method="GET", path="/v1/tenants/$TENANT_ID", statuses=frozenset({403})),
    Detour(
        method="GET",
        path="/api/v1/tasks?replay_of_task_id=$TASK",
        statuses=frozenset({200, 404}),
    ),
    Detour(method="GET", path="/api/v1/tasks?cursor=$TASKS_CURSOR", statuses=REFUSED),
    Detour(method="GET", path="/v1/keys?cursor=$KEYS_CURSOR", statuses=REFUSED),
    Detour(method="GET", path="/v1/users?cursor=$USERS_CURSOR", statuses=REFUSED),
    Detour(method="GET", path="/v1/audit?cursor=$AUDIT_CURSOR", statuses=REFUSED),
    Detour(method="POST", path="/v1/keys", body={"tenant": "$TENANT"}, statuses=frozenset({403})),
    Detour(
        method="POST", path="/v1/keys", body={"tenant": "$TENANT_ID"}, statuses=frozenset({403})
    ),
    Detour(method="POST", path="/v1/keys", body={"user_number": "#USER"}, statuses=REFUSED),
    Detour(
        method="POST",
        path="/v1/users",
        body={"tenant": "$TENANT", "email": "$NEW@example.org", "role": "admin"},
        statuses=frozenset({403}),
    ),
)
