"""/healthz: this process answers. /readyz: so do the services behind it."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from gateway.answers import json_answer
from gateway.call import gateway_of
from gateway.clients import degraded, sandboxes, unready
from gateway.openapi import PUBLIC, problem_response
from gateway.route import Route
from libs.core.errors import FieldError, PawlError

router = APIRouter(route_class=Route, tags=["Health"])


class Healthy(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Every service serves. Degraded: something is away that they can do without for a while."""

    status: Literal["ready", "degraded"]
    services: dict[str, Literal["ready"]]
    sandboxes: list[Literal["docker", "bubblewrap", "monty"]] = Field(
        description="What runs code steps; empty: plans with code are refused."
    )
    degraded: dict[str, str] | None = None


@router.get("/healthz", summary="Alive?", response_model=Healthy, openapi_extra=PUBLIC)
async def healthz(_request: Request) -> Response:
    """Says only that this process answers."""
    return json_answer({"status": "ok"})


@router.get(
    "/readyz",
    summary="Ready?",
    response_model=Ready,
    responses={503: problem_response(503)},
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
