"""/healthz: this process answers. /readyz: so do the services behind it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.answers import json_answer
from gateway.call import gateway_of
from gateway.clients import degraded, sandboxes, unready
from gateway.openapi import PUBLIC, PUBLIC_REFUSALS
from gateway.optional_members import ABSENT, Optional
from gateway.route import Route
from libs.core.errors import FieldError, PawlError

READY: dict[str, Any] = {
    "status": "ready",
    "services": dict.fromkeys(("auth", "planner", "scheduler", "artifact"), "ready"),
    "sandboxes": ["bubblewrap", "monty"],
}
DEGRADED = READY | {
    "status": "degraded",
    "degraded": {"bus": "it cannot be reached: tasks run, and their events are published later"},
}

router = APIRouter(route_class=Route, tags=["Health"])


class Healthy(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})
    status: Literal["ok"]


class Ready(BaseModel):
    """Every service serves. Degraded: something is away that they can do without for a while."""

    model_config = ConfigDict(json_schema_extra={"examples": [READY, DEGRADED]})
    status: Literal["ready", "degraded"]
    services: dict[str, Literal["ready"]]
    sandboxes: list[Literal["docker", "bubblewrap", "monty"]] = Field(
        description="What runs code steps; empty: plans with code are refused."
    )
    degraded: Optional[
        Annotated[
            dict[str, str], Field(description="What is away, and what that means; else absent.")
        ]
    ] = ABSENT


@router.get(
    "/healthz",
    summary="Alive?",
    response_model=Healthy,
    responses=PUBLIC_REFUSALS,
    openapi_extra=PUBLIC,
)
async def healthz(_request: Request) -> Response:
    """Says only that this process answers."""
    return json_answer({"status": "ok"})


@router.get(
    "/readyz",
    summary="Ready?",
    response_model=Ready,
    responses=PUBLIC_REFUSALS,
    openapi_extra=PUBLIC,
)
async def readyz(request: Request) -> Response:
    """Asks every service; 503 names those that do not serve, and says why.

    200 with `degraded` while the bus is away: tasks are taken and run, events come later.
    """
    clients = gateway_of(request).clients
    reasons = await unready(clients)
    if reasons:
        raise PawlError(
            "unavailable",
            f"not ready: {', '.join(reasons)}",
            errors=tuple(
                FieldError(field=name, code="unavailable", detail=reason)
                for name, reason in reasons.items()
            ),
            retry_after_seconds=1,
        )
    services = dict.fromkeys(clients.health, "ready")
    lacking, runs_code = await asyncio.gather(degraded(clients), sandboxes(clients))
    said = {"services": services, "sandboxes": runs_code}
    if lacking:
        return json_answer({"status": "degraded", **said, "degraded": lacking})
    return json_answer({"status": "ready", **said})
